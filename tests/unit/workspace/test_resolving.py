"""A conflict as files for a resolver, its description, what is left of it, and the merge commit in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, git, head_of, integrated, shell, write

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
    await integrated(swarm, first, "Merge a")
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
    later = await swarm.open_resolver("b.r1", 2, start, theirs, saved)
    assert (later.base, later.head) == (start, start)
    assert git(later.path, "rev-parse", "merged-before", "this-subtask").split() == [start, theirs]
    assert (later.path / "a").read_text() == "edited\n"
    assert await swarm.unresolved(later, theirs) == ("f.txt",)
    write(later.path, {"f.txt": "both\n"})
    made = await swarm.commit(later, message="Resolve", trailers={}, theirs=theirs)
    assert made is not None
    assert git(clone_of(swarm), "log", "-1", "--format=%P", made.commit) == f"{start} {theirs}"
    with pytest.raises(WorkspaceError, match="was taken over"):
        await opened(sides, token=1)


KINDS = [
    (
        "printf '\\0\\1' > bin",
        "printf '\\0\\2' > bin",
        ["UU bin"],
        "Cannot merge binary files: bin (merged-before vs. this-subtask) The file is that of merged-before",
    ),
    ("rm f.txt", f"printf '{THEIRS}' > f.txt", ["DU f.txt"], "(modify/delete): f.txt deleted in merged-before"),
    (f"printf '{OURS}' > f.txt", "rm f.txt", ["UD f.txt"], "(modify/delete): f.txt deleted in this-subtask"),
    (
        "git mv f.txt one.txt",
        "git mv f.txt two.txt",
        ["DD f.txt", "AU one.txt", "UA two.txt"],
        "(rename/rename): f.txt renamed to one.txt in merged-before and to two.txt in this-subtask. Decide for one",
    ),
    ("ln -s to link", "echo x > link", ["AU link", "UA link~this-subtask"], "link had different types on each side"),
    (
        "rm f.txt; mkdir f.txt; echo x > f.txt/x",
        f"printf '{THEIRS}' > f.txt",
        ["DU f.txt~this-subtask"],
        "directory in the way",
    ),
    (
        "echo one > run; chmod +x run",
        "echo one > run",
        ["AA run"],
        "Merge conflict in run Its mode is 755 in merged-before and 644 in this-subtask.",
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "status", "text"), KINDS)
async def test_kinds_of_conflicts_are_described(
    ours: str, theirs: str, status: list[str], text: str, user: Path, tmp_path: Path
) -> None:
    base = add_commit(user, {"f.txt": BASE, "bin": b"\0\0"}, "Files")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    start, commit = await conflicting(swarm, base, ours, theirs)
    told = await swarm.conflict_description(start, commit)
    assert text in told, told
    assert start not in told
    assert commit not in told
    worktree = await swarm.open_resolver("b.r1", 1, start, commit)
    conflicts = git(worktree.path, "status", "--porcelain", "-z").split("\0")
    assert [line for line in conflicts if "U" in line[:2] or line[:2] in ("AA", "DD")] == status
    shown = await swarm.unresolved(worktree, commit)
    assert shown == tuple(line[3:] for line in status if "~" in line)


async def test_many_conflicts_are_counted(user: Path, tmp_path: Path) -> None:
    base = add_commit(user, {}, "Nothing")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    script = "for number in $(seq 130); do echo {0} > file$number; done; echo {0} > 'two\nlines'"
    start, theirs = await conflicting(swarm, base, script.format("a"), script.format("b"))
    told = await swarm.conflict_description(start, theirs)
    assert told.startswith("Merging this-subtask with what was merged before leaves conflicts in 131 files:\n")
    assert "- and 31 more\n" in told
    assert len(told.splitlines()) == 104


DOCUMENT = "Title\n=======\n\n{}\n\nMore\n=======\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n"


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (DOCUMENT.format("both"), False),
        (DOCUMENT.format("both").replace("\n", "\r\n"), False),
        (DOCUMENT.format("New\n=======\n"), True),  # below a line that no side has there
        (DOCUMENT.format("ours\n=======\ntheirs"), True),
        (DOCUMENT.format("ours\ntheirs\n>>>>>>> this-subtask"), True),
        (DOCUMENT.format("<<<<<<< merged-before\nours\ntheirs"), True),
        (DOCUMENT.format("ours\n||||||| 1234567\n"), True),
        (DOCUMENT.format("<<<<<<<<< Temporary merge branch 1\n"), True),
        (DOCUMENT.format("<<<<<< six\n====== ======\n"), False),
    ],
)
async def test_what_looks_like_markers(content: str, left: bool, user: Path, tmp_path: Path) -> None:
    base = add_commit(user, {"f.md": DOCUMENT.format("base")}, "Document")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    script = "sed -i 's/^base$/{}/' f.md"
    start, theirs = await conflicting(swarm, base, script.format("ours"), script.format("theirs"))
    worktree = await swarm.open_resolver("b.r1", 1, start, theirs)
    assert await swarm.unresolved(worktree, theirs) == ("f.md",)
    write(worktree.path, {"f.md": content, "new.md": "How to\n=======\n\n<<<<<<< HEAD\n"})
    assert await swarm.unresolved(worktree, theirs) == (("f.md",) if left else ())


async def test_markers_in_a_file_that_was_moved_are_found(sides: tuple[SwarmRepository, str, str]) -> None:
    swarm, _, theirs = sides
    worktree = await opened(sides)
    shell(worktree.path, "mv f.txt elsewhere.txt")
    assert await swarm.unresolved(worktree, theirs) == ("elsewhere.txt",)


async def test_attributes_decide_how_long_markers_are(user: Path, tmp_path: Path) -> None:
    base = add_commit(user, {".gitattributes": "*.txt conflict-marker-size=12\n", "f.txt": BASE}, "Long markers")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    start, theirs = await conflicting(swarm, base, f"printf '{OURS}' > f.txt", f"printf '{THEIRS}' > f.txt")
    worktree = await swarm.open_resolver("b.r1", 1, start, theirs)
    assert "\n============\n" in (worktree.path / "f.txt").read_text()
    write(worktree.path, {"f.txt": "one\nours\n============\ntheirs\nthree\n"})
    assert await swarm.unresolved(worktree, theirs) == ("f.txt",)
    write(worktree.path, {"f.txt": "one\nours\n=======\ntheirs\nthree\n"})  # of seven: an underline here
    assert await swarm.unresolved(worktree, theirs) == ()


async def test_an_empty_marker_size_is_the_usual_one(user: Path, tmp_path: Path) -> None:
    base = add_commit(user, {".gitattributes": "*.txt conflict-marker-size=\n", "f.txt": BASE, "g.txt": BASE}, "Empty")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    change = "for f in f.txt g.txt; do printf '{0}' > $f; done"
    start, theirs = await conflicting(swarm, base, change.format(OURS), change.format(THEIRS))
    worktree = await swarm.open_resolver("b.r1", 1, start, theirs)
    assert set(await swarm.unresolved(worktree, theirs)) == {"f.txt", "g.txt"}
