"""What a saved state of a branch changed, for those who judge it while it is worked on.

Commits are looked at, never the agent's files: they stand still meanwhile, and hold no device, no pipe and no link that
leads outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarmq.workspace.git import shown
from swarmq.workspace.private_clone import PrivateClone, valid_commit

LOOK_SECONDS = 30.0
CHECK_BYTES = 1_000_000
"""Of what ``git diff --check`` says; whitespace errors, which nobody judges, can be many."""
_REGULAR = ("100644", "100755")
_MARKER = re.compile(rb"(?P<name>.+):\d+: leftover conflict marker\.?")


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """``blob`` is what it holds now, ``before`` what it held in the base; None where it is, or was, no regular file."""

    name: str
    blob: str | None
    before: str | None

    @property
    def shown(self) -> str:
        return shown(self.name)


@dataclass(frozen=True, slots=True)
class Survey:
    """``changed_lines``: added and removed. ``marked``: blobs with what git takes for conflict markers."""

    files: tuple[ChangedFile, ...] = ()
    changed_lines: int = 0
    marked: frozenset[str] = frozenset()


def survey_changes(clone: PrivateClone, base: str, commit: str) -> Survey:
    """How a commit differs from the base: two git processes, one where nothing differs."""
    git = replace(clone.git, timeout_seconds=LOOK_SECONDS)
    between = (valid_commit(base), valid_commit(commit))
    options = ("-r", "--no-renames", "--no-ext-diff")
    listed = git.run("diff-tree", *options, "-z", "--raw", "--numstat", *between).names
    files, changed_lines = _parsed(listed)
    if not files:
        return Survey()
    said = git.run("diff-tree", *options, "--check", *between, accept=(0, 2), limit_bytes=CHECK_BYTES).stdout
    names = {
        found["name"].decode("utf-8", "surrogateescape") for found in map(_MARKER.fullmatch, said.split(b"\n")) if found
    }
    marked = {file.blob for file in files if file.name in names and file.blob is not None}
    return Survey(files, changed_lines, frozenset(marked))


def _parsed(fields: Sequence[str]) -> tuple[tuple[ChangedFile, ...], int]:
    """``:MODE MODE BLOB BLOB STATUS``, name; then ``ADDED TAB REMOVED TAB name``, with dashes for binary files."""
    files: list[ChangedFile] = []
    changed_lines = 0
    rest = iter(fields)
    for field in rest:
        if field.startswith(":"):
            mode_before, mode, before, blob, _ = field[1:].split(" ")
            files.append(
                ChangedFile(next(rest), blob if mode in _REGULAR else None, before if mode_before in _REGULAR else None)
            )
        else:
            added, removed, _ = field.split("\t", 2)
            changed_lines += int(added) + int(removed) if added != "-" else 0
    return tuple(files), changed_lines


def blob_contents(clone: PrivateClone, blobs: Sequence[str], limit_bytes: int, total_bytes: int) -> dict[str, bytes]:
    """What the blobs hold, by blob. Left out are those of more than ``limit_bytes``, and what is beyond the total."""
    if not blobs:
        return {}
    git = replace(clone.git, timeout_seconds=LOOK_SECONDS)
    sizes = git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=_lines(blobs)).text.splitlines()
    small: list[str] = []
    for blob, _, size in (line.partition(" ") for line in sizes):
        if size.isdecimal() and int(size) <= min(limit_bytes, total_bytes):
            small.append(blob)
            total_bytes -= int(size)
    raw = git.run("cat-file", "--batch=%(objectname) %(objectsize)", stdin=_lines(small)).stdout if small else b""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        blob, _, size = raw[at:end].decode().partition(" ")
        start = end + 1
        found[blob] = raw[start : start + int(size)]
        at = start + int(size) + 1
    return found


def _lines(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()
