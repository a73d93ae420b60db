"""What a saved state of a branch changed, for those who judge it while it is worked on.

Commits are looked at, never the agent's files: they stand still meanwhile, and hold no device, no pipe and no link that
leads outside.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarmq.workspace.git import GitResult, shown
from swarmq.workspace.private_clone import PrivateClone, valid_commit

LOOK_SECONDS = 30.0
CHECK_BYTES = 1_000_000
"""Of what ``git diff --check`` says; whitespace errors, which nobody judges, can be many."""
MOST_LINES = 20_000
"""Files that a branch made longer by more are generated: they are counted, not read."""
_REGULAR = ("100644", "100755")
_MARKER = re.compile(rb"(?P<name>.+):\d+: leftover conflict marker\.?")


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """``blob`` is what it holds now, ``before`` what it held in the base.

    None where it is, or was, no regular file; ``blob`` also where it is binary or grew by too much to be read.
    """

    name: str
    blob: str | None
    before: str | None

    @property
    def shown(self) -> str:
        return shown(self.name)


@dataclass(frozen=True, slots=True)
class Survey:
    """``changed_lines``: added and removed."""

    files: tuple[ChangedFile, ...] = ()
    changed_lines: int = 0


def survey_changes(clone: PrivateClone, base: str, commit: str) -> Survey:
    """How a commit differs from the base: one git process."""
    listed = _diff_tree(clone, base, commit, "-z", "--raw", "--numstat").names
    return Survey(*_parsed(listed))


def marked_files(clone: PrivateClone, base: str, commit: str) -> frozenset[str]:
    """Names of files to which a commit added what ``git diff --check`` takes for conflict markers."""
    said = _diff_tree(clone, base, commit, "--check", limit_bytes=CHECK_BYTES).stdout
    found = filter(None, map(_MARKER.fullmatch, said.split(b"\n")))
    return frozenset(os.fsdecode(one["name"]) for one in found)


def _diff_tree(clone: PrivateClone, base: str, commit: str, *options: str, limit_bytes: int | None = None) -> GitResult:
    git = replace(clone.git, timeout_seconds=LOOK_SECONDS)
    command = ("diff-tree", "-r", "--no-renames", "--no-ext-diff", *options, valid_commit(base), valid_commit(commit))
    return git.run(*command, accept=(0, 2), limit_bytes=limit_bytes)


def _parsed(fields: Sequence[str]) -> tuple[tuple[ChangedFile, ...], int]:
    """``:MODE MODE BLOB BLOB STATUS``, name; then ``ADDED TAB REMOVED TAB name``, with dashes for binary files."""
    files: dict[str, ChangedFile] = {}
    changed_lines = 0
    rest = iter(fields)
    for field in rest:
        if field.startswith(":"):
            mode_before, mode, before, blob, _ = field[1:].split(" ")
            name = next(rest)
            files[name] = ChangedFile(
                name, blob if mode in _REGULAR else None, before if mode_before in _REGULAR else None
            )
            continue
        added, removed, name = field.split("\t", 2)
        if added == "-" or int(added) > MOST_LINES:
            files[name] = replace(files[name], blob=None)
        changed_lines += int(added) + int(removed) if added != "-" else 0
    return tuple(files.values()), changed_lines


def blob_contents(clone: PrivateClone, blobs: Sequence[str], limit_bytes: int) -> dict[str, bytes]:
    """What the blobs hold, by blob, as far as the limit for all of them goes."""
    if not blobs:
        return {}
    git = replace(clone.git, timeout_seconds=LOOK_SECONDS)
    feed = "".join(f"{blob}\n" for blob in blobs).encode()
    raw = git.run("cat-file", "--batch=%(objectname) %(objectsize)", stdin=feed, limit_bytes=limit_bytes).stdout
    found: dict[str, bytes] = {}
    at = 0
    while (end := raw.find(b"\n", at)) >= 0:
        blob, _, size = raw[at:end].decode().partition(" ")
        at = end + 1
        if not size.isdecimal():  # missing
            continue
        if at + int(size) > len(raw):
            break
        found[blob] = raw[at : at + int(size)]
        at += int(size) + 1
    return found
