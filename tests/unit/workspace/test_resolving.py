"""A conflict as files for a resolver, its description, what is left of it, and the merge commit in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, git, head_of, shell, write

from swarmq.errors import WorkspaceError
from swarmq.models.swarm import MergeReport
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository, Worktree

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

OURS = "one\nours\nthree\n"
THEIRS = "one\ntheirs\nthree\n"
BASE = "one\ntwo\nthree\n"


async def scripted(swarm: SwarmRepository, branch: str, base: str, script: str) -> str:
    worktree = await swarm.open_worktree(branch, 1, base)
    shell(worktree.path, script)
    made = await swarm.commit(worktree, message=f"Work of {branch}", trailers={})
    assert made is not None
    return made.commit


async def conflicting(swarm: SwarmRepository, base: str, ours: str, theirs: str) -> tuple[str, str]:
    """The integration tip with ``ours`` merged, and the commit that conflicts with it."""
    first, second = await scripted(swarm, "a", base, ours), await scripted(swarm, "b", base, theirs)
    await swarm.integrate(first, message="Merge a")
    report = await swarm.prepare_merge(second, message="Merge b")
    assert not isinstance(report, PreparedMerge)
    assert report.status == "conflict"
    return await swarm.integration_commit(), second


@pytest.fixture
async def sides(user: Path, tmp_path: Path) -> tuple[SwarmRepository, str, str]:
    base = add_commit(user, {"f.txt": BASE, "other.txt": "x\n"}, "Text")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    start, theirs = await conflicting(
        swarm, base, f"printf '{OURS}' > f.txt; echo a > a", f"printf '{THEIRS}' > f.txt; echo b > b"
    )
    return swarm, start, theirs


async def opened(sides: tuple[SwarmRepository, str, str], token: int = 1) -> Worktree:
    swarm, start, theirs = sides
    return await swarm.open_resolver("b.r1", token, start, theirs)


async def test_a_resolver_sees_both_sides_and_the_base(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, start, theirs = sides
    worktree = await opened(sides)
    lines = (worktree.path / "f.txt").read_text().splitlines()
    assert lines[0] == "one"
    assert lines[1:3] == ["<<<<<<< merged-before", "ours"]
    assert lines[3].startswith("||||||| ")
    assert lines[4:] == ["two", "=======", "theirs", ">>>>>>> this-subtask", "three"]
    assert (worktree.path / "a").exists()
    assert (worktree.path / "b").exists()
    assert git(worktree.path, "status", "--porcelain").splitlines() == ["A  b", "UU f.txt"]
    assert git(worktree.path, "show", "merged-before:f.txt") + "\n" == OURS
    assert git(worktree.path, "show", "this-subtask:f.txt") + "\n" == THEIRS
    assert (head_of(worktree.path), worktree.base) == (start, start)
    assert await swarm.unresolved(worktree, theirs) == ("f.txt",)
    assert await opened(sides) == worktree


async def test_a_resolution_is_a_merge_of_both(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, start, theirs = sides
    worktree = await opened(sides)
    write(worktree.path, {"f.txt": "one\nours and theirs\nthree\n"})
    assert await swarm.unresolved(worktree, theirs) == ()
    made = await swarm.commit(worktree, message="Resolve", trailers={"Swarmq-Branch": "b.r1"}, theirs=theirs)
    assert made is not None
    assert set(made.files) == {"b", "f.txt"}
    assert git(clone_of(swarm), "log", "-1", "--format=%P|%s", made.commit) == f"{start} {theirs}|Resolve"
    again = await swarm.commit(worktree, message="Resolve", trailers={"Swarmq-Branch": "b.r1"}, theirs=theirs)
    assert again == made
    merge = await swarm.prepare_merge(made.commit, message="Merge b", theirs=theirs)
    assert isinstance(merge, PreparedMerge)
    await swarm.land(merge)
    assert file_at(clone_of(swarm), await swarm.integration_commit(), "f.txt") == "one\nours and theirs\nthree"
    assert git(clone_of(swarm), "log", "-1", "--format=%P", merge.commit) == f"{start} {made.commit}"
    report = await swarm.prepare_merge(theirs, message="Merge b")
    assert report == MergeReport(status="empty", commit=merge.commit)


async def test_a_merge_that_the_agent_committed_is_kept(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, start, theirs = sides
    worktree = await opened(sides)
    shell(worktree.path, "printf 'both\\n' > f.txt; git add f.txt; git commit -qm 'My merge'")
    made = await swarm.commit(worktree, message="Resolve", trailers={"Swarmq-Branch": "b.r1"}, theirs=theirs)
    assert made is not None
    found = git(clone_of(swarm), "log", "-1", "--format=%P|%s|%(trailers:key=Swarmq-Branch,valueonly)", made.commit)
    assert found.split("|")[:2] == [f"{start} {theirs}", "My merge"]
    assert found.endswith("b.r1")


async def test_steps_of_the_agent_that_are_no_merge_become_one(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, start, theirs = sides
    worktree = await opened(sides)
    shell(worktree.path, "rm .git/MERGE_HEAD; printf 'both\\n' > f.txt; git add f.txt; git commit -qm Step")
    step = head_of(worktree.path)
    made = await swarm.commit(worktree, message="Resolve", trailers={}, theirs=theirs)
    assert made is not None
    assert git(clone_of(swarm), "log", "-1", "--format=%P", made.commit) == f"{step} {theirs}"
    assert git(clone_of(swarm), "log", "-1", "--format=%P", step) == start


async def test_taking_nothing_of_the_other_side_is_a_resolution(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, _, theirs = sides
    worktree = await opened(sides)
    shell(worktree.path, "git checkout -q merged-before -- f.txt; git rm -qf b")
    made = await swarm.commit(worktree, message="Resolve", trailers={}, theirs=theirs)
    assert made is not None
    assert made.files == ()
    merge = await swarm.prepare_merge(made.commit, message="Merge b", theirs=theirs)
    assert isinstance(merge, PreparedMerge)
    assert merge.report.files == ()
    report = await swarm.land(merge)
    assert report is not None
    assert await swarm.unresolved(worktree, theirs) == ()


async def test_a_resolver_goes_on_from_its_checkpoint(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, start, theirs = sides
    worktree = await opened(sides)
    write(worktree.path, {"a": "edited\n"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    later = await swarm.open_worktree("b.r1", 2, saved)
    assert (later.base, later.head) == (start, start)
    assert (later.path / "a").read_text() == "edited\n"
    assert await swarm.unresolved(later, theirs) == ("f.txt",)
    write(later.path, {"f.txt": "both\n"})
    made = await swarm.commit(later, message="Resolve", trailers={}, theirs=theirs)
    assert made is not None
    assert git(clone_of(swarm), "log", "-1", "--format=%P", made.commit) == f"{start} {theirs}"
    with pytest.raises(WorkspaceError, match="was taken over"):
        await opened(sides, token=1)
