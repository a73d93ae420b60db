"""Cleaning up loses no commit; cached results live until they expire."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, finished, git, head_of, integrated, names_at, write

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.private_clone import COMMON_DIR
from swarmq.workspace.result_commits import expire_results
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
OTHER = "b000000000"


def kept(user: Path) -> list[str]:
    return [line.split("\t")[1] for line in git(user, "for-each-ref", "refs/swarmq/").splitlines()]


async def test_nothing_is_kept_of_what_is_published(user: Path, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"a": "1"})
    await swarm.checkpoint(worktree, None)
    made = await swarm.commit(worktree, message="a", trailers={})
    assert made is not None
    await integrated(swarm, made.commit, "Merge a")
    await swarm.publish()
    assert kept(user) == [f"refs/swarmq/{SWARM}/base"]
    await swarm.remove()
    assert kept(user) == []
    assert not clone_of(swarm).parent.exists()
    git(user, "fsck", "--full")


async def test_unfinished_work_is_fetched_first(user: Path, base: str, swarm: SwarmRepository) -> None:
    merged = await finished(swarm, "merged", base, {"a": "1"})
    await integrated(swarm, merged, "Merge")
    unmerged = await finished(swarm, "unmerged", base, {"README.md": "other\n"})
    failed = await swarm.open_worktree("failed", 1, base)
    write(failed.path, {"half": "1"})
    saved = await swarm.checkpoint(failed, None)
    tip = await swarm.integration_commit()
    git(user, "gc", "--quiet", "--prune=now")
    await swarm.remove()  # before it was published
    place = f"refs/swarmq/{SWARM}"
    assert kept(user) == [f"{place}/integration", f"{place}/work/failed", f"{place}/work/unmerged"]
    assert head_of(user, f"{place}/integration") == tip
    assert head_of(user, f"{place}/work/failed") == saved
    assert head_of(user, f"{place}/work/unmerged") == unmerged
    git(user, "gc", "--quiet", "--prune=now")
    assert file_at(user, f"{place}/work/failed", "half") == "1"
    assert "half" in await swarm.diff(base, saved or "")
    await swarm.remove()
    assert len(kept(user)) == 3


async def test_worktrees_to_keep_stay_with_all_they_need(user: Path, base: str, swarm: SwarmRepository) -> None:
    keep = await swarm.open_worktree("keep", 1, base)
    drop = await swarm.open_worktree("drop", 1, base)
    write(keep.path, {"a": "1"})
    await swarm.remove({str(keep.path)})
    assert not drop.path.exists()
    git(user, "gc", "--quiet", "--prune=now")
    assert git(keep.path, "status", "--porcelain") == "?? a"
    assert await swarm.checkpoint(keep, None) is not None
    directory = clone_of(swarm).parent
    for half_made in (".making-1", "worktrees/.doomed-2"):
        (directory / half_made / "deep").mkdir(parents=True)
    (directory / "indexes" / ".making-3").touch()
    await swarm.remove_worktrees({str(keep.path)})
    assert [path.name for name in ("worktrees", "indexes") for path in (directory / name).iterdir()] == ["keep-1"] * 2
    assert not list(directory.glob(".*"))
    await swarm.remove_worktrees()
    assert not keep.path.exists()
    assert clone_of(swarm).exists()


async def test_a_base_that_the_user_drops_stays_alive(user: Path, tmp_path: Path) -> None:
    base = add_commit(user, {"dropped": "1"}, "To be dropped")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    await swarm.prepare()
    git(user, "reset", "--quiet", "--hard", "HEAD~1")
    git(user, "reflog", "expire", "--expire=now", "--all")
    git(user, "gc", "--quiet", "--prune=now")
    await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge")
    published = await swarm.publish()
    assert published is not None
    assert file_at(user, published[0], "dropped") == "1"


async def test_a_linked_worktree_of_the_user_may_go(user: Path, tmp_path: Path) -> None:
    """Its repository is there, and what the clone holds gets there."""
    linked = tmp_path / "linked"
    git(user, "worktree", "add", "--quiet", "-b", "feature", str(linked))
    base = add_commit(linked, {"feature": "1"}, "Feature")
    swarm = SwarmRepository(tmp_path / "state", SWARM, linked, base)
    await integrated(swarm, await finished(swarm, "merged", base, {"a": "1"}), "Merge")
    unmerged = await finished(swarm, "unmerged", base, {"b": "1"})
    git(user, "worktree", "remove", str(linked))
    published = await swarm.publish()
    assert published is not None
    assert head_of(user, published[0]) == published[1]
    await swarm.remove()
    assert not clone_of(swarm).parent.exists()
    assert kept(user) == [f"refs/swarmq/{SWARM}/work/unmerged"]
    assert head_of(user, f"refs/swarmq/{SWARM}/work/unmerged") == unmerged
    git(user, "fsck", "--full")


@pytest.mark.parametrize("known", [True, False], ids=["git directory known", "clone of an older version"])
async def test_a_clone_waits_for_a_repository_that_is_away(
    known: bool, user: Path, base: str, swarm: SwarmRepository
) -> None:
    commit = await finished(swarm, "a", base, {"a": "1"})
    if not known:
        (clone_of(swarm) / COMMON_DIR).unlink()
    away = shutil.move(user, user.with_name("away"))
    with pytest.raises(WorkspaceError, match="is not there"):
        await swarm.publish()
    with pytest.raises(WorkspaceError, match="is kept with its commits"):
        await swarm.remove()
    assert clone_of(swarm).is_dir()
    shutil.move(away, user)
    await swarm.remove()
    assert kept(user) == [f"refs/swarmq/{SWARM}/work/a"]
    assert head_of(user, f"refs/swarmq/{SWARM}/work/a") == commit
    assert not clone_of(swarm).parent.exists()
    shutil.rmtree(user)
    await swarm.remove()  # nothing is left to lose


async def test_a_kept_result_is_applied_on_an_equal_base(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    commit = await finished(swarm, "a", base, {"a": "1", "src/app.py": "new\n"})
    await swarm.keep_result("k1", commit)
    await swarm.remove()
    for ref in kept(user):
        git(user, "update-ref", "-d", ref)
    git(user, "commit", "--quiet", "--amend", "-m", "Another commit, the same tree")
    git(user, "gc", "--quiet", "--prune=now")
    later = SwarmRepository(tmp_path / "state", OTHER, user, head_of(user))
    hit = await later.apply_result("k1", head_of(user), "fresh")
    assert hit is not None
    where = clone_of(later)
    assert git(where, "rev-parse", f"{hit}^") == head_of(user)
    assert git(where, "log", "-1", "--format=%s", hit) == "Work of a"
    assert file_at(where, hit, "src/app.py") == "new"
    assert head_of(where, f"refs/heads/swarmq-work/{OTHER}/fresh") == hit
    assert (await integrated(later, hit, "Merge")).files == ("a", "src/app.py")
    assert await later.apply_result("k2", head_of(user)) is None
    with pytest.raises(UsageError, match="is not the key of a result"):
        await later.apply_result("../k", head_of(user))


async def test_a_hit_that_applies_nothing_is_a_miss(user: Path, base: str, swarm: SwarmRepository) -> None:
    commit = await finished(swarm, "a", base, {"a": "1"})
    await swarm.keep_result("k", commit)
    assert await swarm.apply_result("k", commit) is None


async def test_a_result_of_a_later_stage(user: Path, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    """Its base is an integration commit, which the user's repository does not have."""
    await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge a")
    second = await finished(swarm, "b", await swarm.integration_commit(), {"b": "1"})
    await swarm.keep_result("k", second)
    await swarm.remove()
    for ref in kept(user):
        git(user, "update-ref", "-d", ref)
    git(user, "gc", "--quiet", "--prune=now")
    later = SwarmRepository(tmp_path / "state", OTHER, user, base)
    await integrated(later, await finished(later, "a", base, {"a": "1"}), "Merge a")
    hit = await later.apply_result("k", await later.integration_commit())
    assert hit is not None
    assert {"a", "b"} <= set(names_at(clone_of(later), hit))


async def test_a_result_whose_objects_are_gone_is_a_miss(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    await swarm.keep_result("k", await finished(swarm, "a", base, {"a": "1"}))
    await swarm.remove()
    for ref in kept(user):
        git(user, "update-ref", "-d", ref)
    git(user, "gc", "--quiet", "--prune=now")
    for pack in (tmp_path / "state" / "cache").rglob("*.pack"):
        pack.chmod(0o600)
        pack.unlink()
    later = SwarmRepository(tmp_path / "state", OTHER, user, base)
    assert await later.apply_result("k", base) is None


async def test_results_expire(user: Path, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    commit = await finished(swarm, "a", base, {"a": "1"})
    await swarm.keep_result("k", commit)
    state = tmp_path / "state"
    assert expire_results(state, 3600) == 0
    assert await swarm.apply_result("k", base) is not None
    assert expire_results(state, 0) == 1
    assert await swarm.apply_result("k", base) is None
    assert list((state / "cache").iterdir()) == []
    assert expire_results(tmp_path / "none", 0) == 0
