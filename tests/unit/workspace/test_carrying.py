"""A checkpoint is brought over from an earlier swarm, whatever has become of that swarm's clone meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, finished, git, head_of, integrated, shell, write

from swarmq.errors import WorkspaceError
from swarmq.workspace import carrying
from swarmq.workspace.publishing import remove
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
OTHER = "b000000000"


@pytest.fixture
def again(user: Path, base: str, tmp_path: Path) -> SwarmRepository:
    """The swarm that tries again."""
    return SwarmRepository(tmp_path / "state", OTHER, user, base)


async def half_done(swarm: SwarmRepository, start: str, script: str = "") -> str:
    """A checkpoint of branch ``a``, which an agent has left in the middle."""
    worktree = await swarm.open_worktree("a", 1, start)
    if script:
        shell(worktree.path, script)
    write(worktree.path, {"half": "done\n", "README.md": "changed\n"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    return saved


async def carried(again: SwarmRepository, saved: str, base: str, token: int = 1) -> str | None:
    return await again.carry_checkpoint(SWARM, "a", token, saved, base)


async def test_the_files_are_there_and_measured_against_the_new_base(
    user: Path, base: str, swarm: SwarmRepository, again: SwarmRepository
) -> None:
    saved = await half_done(swarm, base)
    made = await carried(again, saved, base)
    assert made is not None
    worktree = await again.open_worktree("a", 1, made)
    assert (worktree.path / "half").read_text() == "done\n"
    assert (worktree.base, worktree.head) == (base, base)
    assert await again.checkpoint(worktree, made) is None, "nothing is new"
    write(worktree.path, {"rest": "done too\n"})
    found = await again.commit(worktree, message="a", trailers={})
    assert found is not None
    assert found.files == ("README.md", "half", "rest")
    assert git(clone_of(again), "rev-parse", f"{found.commit}^") == base
    assert await carried(again, saved, base) == made, "asked again it is the same"


@pytest.mark.parametrize("fate", ["cleaned up", "lost after cleaning"])
async def test_nothing_is_lost_when_the_earlier_swarm_is_cleaned_up(
    user: Path, base: str, swarm: SwarmRepository, again: SwarmRepository, fate: str
) -> None:
    saved = await half_done(swarm, base)
    if fate == "cleaned up":
        await swarm.remove()
        made = await carried(again, saved, base)
    else:  # first brought over, then everything of the earlier one goes, its refs in the user's repository too
        made = await carried(again, saved, base)
        await swarm.remove()
        git(user, "update-ref", "-d", f"refs/swarmq/{SWARM}/work/a")
        git(user, "gc", "--quiet", "--prune=now")
    assert made is not None
    assert not clone_of(swarm).exists()
    assert file_at(clone_of(again), made, "half") == "done"
    git(clone_of(again), "fsck", "--full", "--strict")


async def test_cleaning_up_in_the_middle_is_survived(
    base: str, swarm: SwarmRepository, again: SwarmRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = await half_done(swarm, base)
    await again.prepare()
    copy, tries = carrying._copy, []

    def cleaned_meanwhile(*arguments: object) -> str | None:
        tries.append(arguments)
        if len(tries) == 1:
            remove(swarm._clone, ())
            raise WorkspaceError("object file vanished")
        return copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(carrying, "_copy", cleaned_meanwhile)
    made = await carried(again, saved, base)
    assert made is not None
    assert len(tries) == 2
    assert file_at(clone_of(again), made, "half") == "done"


async def test_a_clone_that_is_gone_gives_nothing(base: str, swarm: SwarmRepository, again: SwarmRepository) -> None:
    saved = await half_done(swarm, base)
    shutil.rmtree(clone_of(swarm).parent)
    assert await carried(again, saved, base) is None
    assert await again.earlier_tree(SWARM, saved) is None
    worktree = await again.open_worktree("a", 1, base)
    assert not (worktree.path / "half").exists()


async def test_a_clone_that_is_damaged_gives_nothing(base: str, swarm: SwarmRepository, again: SwarmRepository) -> None:
    saved = await half_done(swarm, base)
    tree = git(clone_of(swarm), "rev-parse", f"{saved}^{{tree}}")
    (clone_of(swarm) / "objects" / tree[:2] / tree[2:]).unlink()
    assert await carried(again, saved, base) is None


async def test_the_agents_own_commits_stay_below_it_on_the_same_base(
    base: str, swarm: SwarmRepository, again: SwarmRepository
) -> None:
    saved = await half_done(swarm, base, "echo own > own && git add own && git commit -qm mine")
    made = await carried(again, saved, base)
    assert made is not None
    worktree = await again.open_worktree("a", 1, made)
    assert git(worktree.path, "log", "-1", "--format=%s") == "mine"
    assert worktree.base == base


async def test_on_another_commit_with_the_same_files_it_stands_on_that_one(
    user: Path, base: str, swarm: SwarmRepository, again: SwarmRepository
) -> None:
    """A later stage: both swarms have merged equal work, each by a merge commit of its own."""
    bases = []
    for one in (swarm, again):
        made = await finished(one, "first", base, {"first": "1\n"})
        await integrated(one, made, f"Merge first in {one._clone.swarm_id}")
        bases.append(await one.integration_commit())
    assert bases[0] != bases[1]
    saved = await half_done(swarm, bases[0], "echo own > own && git add own && git commit -qm mine")
    assert await again.earlier_tree(SWARM, bases[0]) == await again.tree_of(bases[1])
    carried_over = await carried(again, saved, bases[1])
    assert carried_over is not None
    worktree = await again.open_worktree("a", 1, carried_over)
    assert (worktree.base, worktree.head) == (bases[1], bases[1])
    assert sorted(path.name for path in worktree.path.iterdir() if path.name in ("own", "half", "first")) == [
        "first",
        "half",
        "own",
    ]
    assert git(worktree.path, "log", "--format=%s", f"{base}..HEAD").count("Merge first") == 1
    found = await again.commit(worktree, message="a", trailers={})
    assert found is not None
    assert set(found.files) == {"README.md", "half", "own"}


async def test_an_older_holder_cannot_bring_anything_any_more(
    base: str, swarm: SwarmRepository, again: SwarmRepository
) -> None:
    saved = await half_done(swarm, base)
    await again.open_worktree("a", 2, base)
    with pytest.raises(WorkspaceError, match="taken over"):
        await carried(again, saved, base, token=1)


async def test_what_is_no_checkpoint_is_not_taken(
    user: Path, base: str, swarm: SwarmRepository, again: SwarmRepository
) -> None:
    await swarm.prepare()
    assert await carried(again, add_commit(user, {"x": "1"}, "Theirs"), base) is None
    assert head_of(user) != base
