"""Merges that exist before the integration branch moves: verified first, then landed or dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from git_samples import SWARM, clone_of, file_at, finished, git, head_of, names_at, write

from swarmq.errors import WorkspaceError
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

INTEGRATION = f"refs/heads/swarmq/{SWARM}"


async def prepared(swarm: SwarmRepository, commit: str, message: str = "Merge") -> PreparedMerge:
    made = await swarm.prepare_merge(commit, message=message)
    assert isinstance(made, PreparedMerge), made
    return made


def prepared_refs(swarm: SwarmRepository) -> list[str]:
    return git(clone_of(swarm), "for-each-ref", "--format=%(objectname)", "refs/swarmq-prepared").split()


async def test_the_branch_stands_until_a_merge_lands(base: str, swarm: SwarmRepository) -> None:
    commit = await finished(swarm, "a", base, {"a": "1\n"})
    merge = await prepared(swarm, commit, "Merge a")
    assert (merge.tip, merge.report.status, merge.report.commit) == (base, "merged", merge.commit)
    assert await swarm.integration_commit() == base
    assert git(clone_of(swarm), "log", "-1", "--format=%P|%s", merge.commit) == f"{base} {commit}|Merge a"
    assert await swarm.land(merge) == merge.report
    assert await swarm.integration_commit() == merge.commit
    assert prepared_refs(swarm) == []
    assert await swarm.land(merge) == merge.report  # the reply may have been lost
    assert await swarm.prepare_merge(commit, message="Merge a again") == merge.report


async def test_a_merge_that_waits_survives_a_collection(base: str, swarm: SwarmRepository) -> None:
    merge = await prepared(swarm, await finished(swarm, "a", base, {"a": "1\n"}))
    git(clone_of(swarm), "gc", "--quiet", "--prune=now")
    assert await swarm.land(merge) == merge.report
    dropped = await prepared(swarm, await finished(swarm, "b", base, {"b": "1\n"}))
    for _ in range(2):
        await swarm.drop(dropped)
        assert prepared_refs(swarm) == []
    assert await swarm.integration_commit() == merge.commit


async def test_a_branch_that_moved_is_not_moved_back(base: str, swarm: SwarmRepository) -> None:
    first = await prepared(swarm, await finished(swarm, "a", base, {"a": "1\n"}))
    second_commit = await finished(swarm, "b", base, {"b": "1\n"})
    second = await prepared(swarm, second_commit)
    third = await prepared(swarm, await finished(swarm, "c", base, {"c": "1\n"}))
    landed = await asyncio.gather(*(swarm.land(merge) for merge in (first, second, third)))
    assert sorted(report is None for report in landed) == [False, True, True]
    assert prepared_refs(swarm) == []
    if landed[1] is None:
        again = await prepared(swarm, second_commit)
        assert again.tip == await swarm.integration_commit()
        assert await swarm.land(again) == again.report
    later = await prepared(swarm, await finished(swarm, "d", base, {"d": "1\n"}))
    await swarm.land(later)
    assert await swarm.land(second if landed[1] else again) is not None  # landed, and merged onto since


async def test_a_refusal_for_another_reason_is_an_error(base: str, swarm: SwarmRepository) -> None:
    merge = await prepared(swarm, await finished(swarm, "a", base, {"a": "1\n"}))
    gone = PreparedMerge(merge.tip, "0" * 39 + "1", merge.report)
    with pytest.raises(WorkspaceError, match="update-ref failed"):
        await swarm.land(gone)
    assert await swarm.integration_commit() == base


async def test_a_merged_commit_is_verified_in_files_of_its_own(base: str, swarm: SwarmRepository) -> None:
    merge = await prepared(swarm, await finished(swarm, "a", base, {"a": "1\n"}))
    one, two = [await swarm.open_detached("verify", merge.commit) for _ in range(2)]
    assert one.path != two.path
    write(one.path, {"a": "changed\n", "made": "x"})
    assert set(await swarm.changed_files(one)) == {"a", "made"}
    assert await swarm.changed_files(two) == ()
    assert (two.path / "a").read_text() == "1\n"
    assert git(two.path, "status", "--porcelain") == ""
    assert head_of(two.path) == merge.commit
    for worktree in (one, two):
        await swarm.remove_worktree(worktree)
    assert list(one.path.parent.glob("verify*")) == []


async def test_prepared_merges_are_not_brought_to_the_user(base: str, swarm: SwarmRepository, user: Path) -> None:
    commit = await finished(swarm, "a", base, {"a": "1\n"})
    await prepared(swarm, commit)
    await swarm.remove()
    assert git(user, "for-each-ref", "--format=%(refname) %(objectname)", "refs/swarmq").splitlines() == [
        f"refs/swarmq/{SWARM}/work/a {commit}"
    ]


async def test_a_resolver_without_the_history_of_what_it_resolves(base: str, swarm: SwarmRepository) -> None:
    """As one from the result cache, which keeps files and no parents."""
    theirs = await finished(swarm, "b", base, {"README.md": "theirs\n"})
    first = await prepared(swarm, await finished(swarm, "a", base, {"README.md": "ours\n"}))
    await swarm.land(first)
    resolver = await finished(swarm, "b.r1", first.commit, {"README.md": "both\n"})
    merge = await swarm.prepare_merge(resolver, message="Merge", theirs=theirs)
    assert isinstance(merge, PreparedMerge)
    assert git(clone_of(swarm), "log", "-1", "--format=%P", merge.commit) == f"{first.commit} {resolver} {theirs}"
    assert file_at(clone_of(swarm), merge.commit, "README.md") == "both"
    await swarm.land(merge)
    for commit in (resolver, theirs):
        report = await swarm.prepare_merge(commit, message="Merge again")
        assert report == merge.report, commit
    assert "README.md" in names_at(clone_of(swarm), INTEGRATION)
