"""Random repositories and random work on them, for the tests of merging: what to write, and how to read it back."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from git_samples import git
from hypothesis import strategies as st

NAMES = ("a", "b", "d/c", "d/e", "bin", "run.sh")
NEW_NAMES = ("n", "d/n", "m/n", "a/n")
REGULAR, EXECUTABLE, LINK = "100644", "100755", "120000"
DEFINING, DEFINED = "d/e", b"def 1\n"
Files: TypeAlias = dict[str, tuple[str, bytes]]
"""Name -> mode and content."""


@dataclass(frozen=True)
class Edit:
    kind: str
    name: str
    other: str
    number: int
    text: str


@dataclass(frozen=True)
class Work:
    """What one branch does; ``later`` branches begin where the integration branch stands then."""

    later: bool
    edits: tuple[Edit, ...]
    resolution: str


@dataclass(frozen=True)
class History:
    files: Files
    work: tuple[Work, ...]


lines = st.lists(st.sampled_from(("p", "q", "r", "s", "t", "u", "def 2", "=======")), min_size=6, max_size=14)
texts = lines.map(lambda found: "".join(f"{line}\n" for line in found).encode())
binaries = st.binary(min_size=1, max_size=8).map(lambda found: b"\0" + found)
edits = st.builds(
    Edit,
    kind=st.sampled_from(
        ("line", "line", "line", "remove", "rename", "add", "mode", "binary", "link", "use", "use", "drop")
    ),
    name=st.sampled_from(NAMES),
    other=st.sampled_from(NEW_NAMES),
    number=st.integers(0, 13),
    text=st.sampled_from(("x", "y", "z", "w")),
)
works = st.builds(
    Work,
    later=st.booleans(),
    edits=st.lists(edits, min_size=1, max_size=5).map(tuple),
    resolution=st.sampled_from(("leave", "ours", "theirs")),
)
bases = st.fixed_dictionaries(
    {name: st.tuples(st.just(EXECUTABLE if name == "run.sh" else REGULAR), texts) for name in NAMES if name != "bin"}
    | {"bin": st.tuples(st.just(REGULAR), binaries)}
)
histories = st.builds(
    History,
    files=bases.map(lambda files: dict(files) | {DEFINING: (REGULAR, b"q\n" + DEFINED + files[DEFINING][1])}),
    work=st.lists(works, min_size=2, max_size=5).map(tuple),
)


def edited(files: Files, work: Work) -> Files:
    """The files after a branch's work; they pass ``broken``, as the agent verified them."""
    files = dict(files)
    for edit in work.edits:
        _apply(files, edit)
    return verified(files)


def _apply(files: Files, edit: Edit) -> None:
    mode, content = files.get(edit.name, ("", b""))
    if edit.kind == "add":
        _put(files, edit.other, REGULAR, f"{edit.text}\n{edit.number}\n".encode())
    elif not mode:
        return
    elif edit.kind == "remove" and len(files) > 1:
        del files[edit.name]
    elif edit.kind == "rename":
        del files[edit.name]
        _put(files, edit.other, mode, content)
    elif edit.kind == "binary":
        files[edit.name] = REGULAR, b"\0" + edit.text.encode() * (edit.number + 1)
    elif edit.kind == "link":
        files[edit.name] = LINK, f"to-{edit.text}".encode()
    elif edit.kind == "mode" and mode != LINK:
        files[edit.name] = (EXECUTABLE if mode == REGULAR else REGULAR), content
    elif edit.kind == "drop":
        mode, content = files.get(DEFINING, ("", b""))
        if DEFINED in content:
            files[DEFINING] = mode, content.replace(DEFINED, b"")
    elif edit.kind in ("line", "use") and mode != LINK and b"\0" not in content:
        found = content.splitlines() or [b""]
        found[edit.number % len(found)] = edit.text.encode() if edit.kind == "line" else b"use 1"
        files[edit.name] = mode, b"\n".join(found) + b"\n"


def _put(files: Files, name: str, mode: str, content: bytes) -> None:
    """No file is also a directory."""
    if not any(f"{name}/".startswith(f"{other}/") or other.startswith(f"{name}/") for other in files if other != name):
        files[name] = mode, content


def broken(files: Files) -> bool:
    """The check of these repositories: what is used somewhere is defined somewhere."""
    found = {line for _, content in files.values() for line in content.splitlines()}
    return b"use 1" in found and b"def 1" not in found


def verified(files: Files) -> Files:
    if not broken(files):
        return files
    return {name: (mode, content.replace(b"use 1", b"used")) for name, (mode, content) in files.items()}


def imported(where: Path, ref: str, files: Files, parent: str | None) -> str:
    """Make a commit with these files on a ref; its id."""
    stream = [f"commit {ref}", "committer O <o@e.c> 1700000000 +0000", "data 1", "x"]
    stream += [f"from {parent}"] if parent else []
    feed = "\n".join([*stream, "deleteall", ""]).encode()
    for name, (mode, content) in files.items():
        feed += f"M {mode} inline {name}\ndata {len(content)}\n".encode() + content + b"\n"
    git(where, "fast-import", "--quiet", "--force", stdin=feed + b"\n")
    return git(where, "rev-parse", ref)


def files_at(where: Path, commit: str) -> Files:
    """The files of a commit."""
    listed = [line.split(None, 3) for line in git(where, "ls-tree", "-r", "-z", commit).split("\0") if line]
    feed = "".join(f"{blob}\n" for _, _, blob, _ in listed).encode()
    command = ["git", "-C", str(where), "cat-file", "--batch"]
    stream = subprocess.run(command, input=feed, capture_output=True, check=True).stdout
    files: Files = {}
    for mode, _, _, name in listed:
        head, _, rest = stream.partition(b"\n")
        size = int(head.split()[-1])
        files[name], stream = (mode, rest[:size]), rest[size + 1 :]
    return files


def merged_by_git(checkout: Path, ours: str, theirs: str) -> tuple[str, set[str]]:
    """What ``git merge`` in an ordinary checkout gives: the tree, or the names of the files that conflict."""
    script = (
        f"git checkout -q --force --detach {ours} && git clean -qfdx"
        f" && git -c user.name=O -c user.email=o@e.c merge --no-ff -q -s ort -m Merge {theirs} >/dev/null 2>&1"
        " && git rev-parse HEAD^{tree} || { git ls-files -z --unmerged; git reset -q --hard; }"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}
    done = subprocess.run(["sh", "-c", script], cwd=checkout, env=variables, capture_output=True, check=True).stdout
    if b"\t" not in done:
        return done.decode().strip(), set()
    names = [os.fsdecode(entry.partition(b"\t")[2]) for entry in done.split(b"\0") if entry]
    return "", {re.sub(rf"~(?:HEAD|{theirs})(?:_\d+)?(?=/|$)", "", name) for name in names}


def reachable(where: Path, commits: Iterable[str]) -> list[str]:
    """Those that some ref leads to."""
    held = set(git(where, "rev-list", "--all").split())
    return [commit for commit in commits if commit in held]
