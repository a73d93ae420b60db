"""Whatever settings, attributes and files a repository has: a merge comes to what plain git makes of it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, git, shell
from histories import merged_by_git

from swarmq.models.swarm import MergeReport
from swarmq.workspace.git import shown
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

LINES = "".join(f"line {number}\n" for number in range(30))
CRLF = LINES.replace("\n", "\r\n")
FIRST, LAST, OTHER_FIRST = (
    "sed -i 's/^line 2\\b/ours/' f",
    "sed -i 's/^line 28/theirs/' f",
    "sed -i 's/^line 2\\b/x/' f",
)
BOTH = (FIRST, LAST)
SAME_LINE = (FIRST, OTHER_FIRST)


@dataclass(frozen=True)
class Case:
    """``files`` besides ``f``; ``local`` and ``everywhere`` are settings of the repository and of its user."""

    sides: tuple[str, str]
    clean: bool
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    local: Sequence[tuple[str, str]] = ()
    everywhere: Sequence[tuple[str, str]] = ()


def attributes(text: str) -> dict[str, str | bytes]:
    return {".gitattributes": text}


DIRECTORY = {f"d/{name}": f"{name}\n" for name in "abcd"}
RENAMED_DIRECTORY = ("git mv d e", "echo new > d/new")
NOISY = "echo noise; cp %B %A"
LFS = (("filter.lfs.clean", "sed 's/^/pointer /'"), ("filter.lfs.smudge", "sed 's/^pointer //'"))
LFS_FILES = attributes("f filter=lfs diff=lfs merge=lfs -text\n")
NORMALISED = ("sed -i 's/\\r$//' f; echo '* text=auto' > .gitattributes", LAST)

CASES = {
    # line ends
    "eol attribute": Case(BOTH, True, attributes("* text eol=crlf\n")),
    "automatic line ends": Case(BOTH, True, local=[("core.autocrlf", "true")]),
    "automatic line ends, same line": Case(SAME_LINE, False, local=[("core.autocrlf", "true")]),
    "carriage returns in the repository": Case(BOTH, True, {"f": CRLF}),
    "line ends changed by one side": Case(NORMALISED, False, {"f": CRLF}),
    "line ends changed, renormalized": Case(NORMALISED, True, {"f": CRLF}, [("merge.renormalize", "true")]),
    "another encoding in files": Case(
        ("printf 'a\\0\\n\\0' > g", LAST), True, attributes("g working-tree-encoding=UTF-16LE text\n")
    ),
    # attributes and drivers
    "union": Case(SAME_LINE, True, attributes("f merge=union\n")),
    "union by a macro": Case(SAME_LINE, True, attributes("[attr]listed merge=union\nf listed\n")),
    "union below": Case(
        ("echo 1 >> d/log", "echo 2 >> d/log"), True, {"d/log": "0\n", "d/.gitattributes": "log merge=union\n"}
    ),
    "union by default": Case(SAME_LINE, True, local=[("merge.default", "union")]),
    "binary": Case(BOTH, False, attributes("f merge=binary\n")),
    "no merge": Case(BOTH, False, attributes("f -merge\n")),
    "no driver of that name": Case(BOTH, True, attributes("f merge=nobody\n")),
    "no driver of that name, same line": Case(SAME_LINE, False, attributes("f merge=nobody\n")),
    "driver of the repository": Case(SAME_LINE, True, attributes("f merge=keep\n"), [("merge.keep.driver", "true")]),
    "driver of the user": Case(
        SAME_LINE, True, attributes("f merge=keep\n"), everywhere=[("merge.keep.driver", "true")]
    ),
    "driver that prints": Case(SAME_LINE, True, attributes("f merge=loud\n"), [("merge.loud.driver", NOISY)]),
    "driver that fails": Case(BOTH, False, attributes("f merge=keep\n"), [("merge.keep.driver", "false")]),
    "driver that is not installed": Case(BOTH, False, attributes("f merge=x\n"), [("merge.x.driver", "no-such %A")]),
    "attributes changed by one side": Case(("echo 'f merge=union' > .gitattributes; " + FIRST, OTHER_FIRST), True),
    "attributes changed by the other": Case((FIRST, "echo 'f merge=union' > .gitattributes; " + OTHER_FIRST), False),
    # filters: pointers are what is merged
    "pointers": Case(("echo ours > g", LAST), True, LFS_FILES, everywhere=LFS),
    "pointers, same file": Case(SAME_LINE, False, LFS_FILES, everywhere=LFS),
    # other settings of the user
    "style of conflicts": Case(SAME_LINE, False, everywhere=[("merge.conflictStyle", "zdiff3")]),
    "recorded resolutions": Case(
        SAME_LINE, False, everywhere=[("rerere.enabled", "true"), ("rerere.autoUpdate", "true")]
    ),
    "few renames": Case(
        ("for n in a b c d; do sed -i 1d d/$n; mv d/$n e-$n; done", "for n in a b c d; do echo x >> d/$n; done"),
        False,
        {f"d/{name}": f"{name}\n" + LINES for name in "abcd"},
        [("merge.renameLimit", "1")],
    ),
    "programs for diffs": Case(
        SAME_LINE,
        False,
        attributes("f diff=loud\n"),
        everywhere=[("diff.loud.textconv", "echo"), ("diff.loud.command", "echo"), ("diff.external", "echo")],
    ),
    # files
    "renamed and changed": Case(("git mv f g", LAST), True),
    "directory renamed": Case(RENAMED_DIRECTORY, False, DIRECTORY),
    "directory renamed, followed": Case(RENAMED_DIRECTORY, True, DIRECTORY, [("merge.directoryRenames", "true")]),
    "directory renamed, not followed": Case(RENAMED_DIRECTORY, True, DIRECTORY, [("merge.directoryRenames", "false")]),
    "directory split": Case(
        ("mkdir e g; git mv d/a d/b e; git mv d/c d/d g", "echo new > d/new"),
        False,
        DIRECTORY,
        [("merge.directoryRenames", "true")],
    ),
    "mode and content": Case(("chmod +x f", LAST), True),
    "link and content": Case(("ln -s f link", LAST), True),
    "link to two places": Case(("ln -sf a link", "ln -sf b link"), False, {"link": ""}),
    "link in place of a file": Case(("rm f; ln -s g f", LAST), False),
    "link in place of a directory": Case(("rm -r d; ln -s e d", "echo x >> d/a"), False, DIRECTORY),
    "names that differ in case": Case(("echo 1 > Name", "echo 2 > name"), True),
    "odd names": Case(("echo 1 > \"$(printf 'a\\nb\\377')\"", "echo 2 > \"$(printf 'a\\nb\\377')\""), False),
    "odd names, apart": Case(("echo 1 > \"$(printf '\\tx\\377')\"", "echo 2 > \"$(printf ':(glob)\\nx')\""), True),
    "binary files": Case(("printf '\\0a' > g", "printf '\\0b' > h"), True),
    "large text": Case((FIRST, LAST), True, {"f": LINES + "a line of text that is there often\n" * 200_000}),
}


@pytest.mark.parametrize("name", list(CASES))
async def test_a_merge_is_what_git_makes_of_it(name: str, tmp_path: Path, own_configuration: Path) -> None:
    case = CASES[name]
    for key, value in case.everywhere:
        git(tmp_path, "config", "--file", str(own_configuration), key, value)
    user = tmp_path / "repo"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(user))
    for key, value in case.local:
        git(user, "config", key, value)
    base = add_commit(user, {"f": LINES, **case.files}, "Files")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    ours, theirs = [await scripted(swarm, branch, base, case.sides[number]) for number, branch in enumerate("ab")]
    first = await swarm.prepare_merge(ours, message="Merge a")
    assert isinstance(first, PreparedMerge)
    await swarm.land(first)
    merge = await swarm.prepare_merge(theirs, message="Merge b")
    assert isinstance(merge, PreparedMerge) == case.clean

    tree, conflicts = merged_by_git(checkout(tmp_path, swarm, case), first.commit, theirs)
    if isinstance(merge, PreparedMerge):
        assert (await swarm.tree_of(merge.commit), conflicts) == (tree, set())
        return
    assert tree == ""
    await conflict_is_told(swarm, merge, conflicts, (first.commit, theirs))


def checkout(where: Path, swarm: SwarmRepository, case: Case) -> Path:
    """An ordinary clone with the same settings and the swarm's commits."""
    place = where / "checkout"
    git(where, "clone", "--quiet", "--shared", "--no-checkout", str(clone_of(swarm)), str(place))
    for key, value in case.local:
        git(place, "config", key, value)
    return place


async def scripted(swarm: SwarmRepository, branch: str, base: str, script: str) -> str:
    worktree = await swarm.open_worktree(branch, 1, base)
    shell(worktree.path, script)
    made = await swarm.commit(worktree, message=f"Work of {branch}", trailers={})
    assert made is not None
    return made.commit


async def conflict_is_told(
    swarm: SwarmRepository, report: MergeReport, conflicts: set[str], sides: tuple[str, str]
) -> None:
    """Those files, in a record and a prompt; and the resolver's files are written."""
    assert report.status == "conflict"
    assert set(report.conflicts) == {shown(name) for name in conflicts}
    assert report.model_dump_json()
    told = await swarm.conflict_description(*sides)
    assert not [side for side in sides if side in told]
    worktree = await swarm.open_resolver("b.r1", 1, *sides)
    left = await swarm.unresolved(worktree, sides[1])
    assert len(set(left)) == len(left)
