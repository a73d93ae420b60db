"""A merge that conflicts, as the files of an agent who is to resolve it.

The worktree is what ``git merge`` would have left: files with both sides and the base between markers, the agent's own
index with the stages of what conflicts, ``MERGE_HEAD``. The agent's repository knows both sides by the names that are
in the markers.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmq.workspace.attributes import with_attributes
from swarmq.workspace.commits import staged_tree
from swarmq.workspace.conflicts import MARKER_SIZE, MERGED_BEFORE, THIS_SUBTASK, Sides, describe, left_over
from swarmq.workspace.git import GitAt, shown
from swarmq.workspace.merge_tree import MergedTree, merge_tree, parsed
from swarmq.workspace.objects import read_blobs
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.worktrees import Worktree, check_out, fence, making, open_worktree, ready, remove_tree

_REGULAR = "100"
_SIZE = re.compile(r"[1-9][0-9]{0,2}")
_LOOKED_AT_BYTES = 8000


def open_resolver(
    clone: PrivateClone, branch_id: str, token: int, start: str, theirs: str, checkpoint: str | None = None
) -> Worktree:
    """The worktree of this token, its files as merging ``theirs`` into ``start`` leaves them, or as at the checkpoint.

    Made once; called again, it is returned with what the agent did.
    """
    if checkpoint is not None:
        return open_worktree(
            clone, branch_id, token, checkpoint, lambda git_dir: _name_sides(git_dir, start, valid_commit(theirs))
        )
    worktree = Worktree(clone.worktrees / f"{branch_id}-{token}", branch_id, valid_commit(start), token, start, start)
    with fence(clone, branch_id, token):
        if not ready(clone, worktree):
            with making(clone, worktree) as files:
                _begin(clone, files, start, valid_commit(theirs))
    return worktree


def _begin(clone: PrivateClone, files: GitAt, start: str, theirs: str) -> None:
    if files.work_tree is None:
        raise ValueError("a worktree in the making has a directory")
    git_dir = files.work_tree / ".git"
    merged = merge_left(clone, start, theirs)
    agents = check_out(files, merged.tree)
    if merged.stages:
        agents.run("update-index", "-z", "--index-info", stdin=_unmerged(merged))
    _name_sides(git_dir, start, theirs)
    (git_dir / "MERGE_HEAD").write_text(f"{theirs}\n")
    (git_dir / "MERGE_MSG").write_text(f"Merge {THIS_SUBTASK} with what was {MERGED_BEFORE.replace('-', ' ')}\n")


def _unmerged(merged: MergedTree) -> bytes:
    """Index entries of the files that conflict: the merged one goes, the sides come."""
    nothing = "0" * len(merged.tree)
    gone = [f"0 {nothing}\t{name}" for name in merged.conflicts]
    return b"".join(os.fsencode(line) + b"\0" for line in [*gone, *(stage.line for stage in merged.stages)])


def merge_left(clone: PrivateClone, start: str, theirs: str) -> MergedTree:
    """What merging the two leaves, in words and files that have the sides' names. Made once, or received."""
    sides = valid_commit(start), valid_commit(theirs)
    if sides not in clone.merges:
        # The names are refs of a repository; the objects go to the clone.
        objects = {"GIT_OBJECT_DIRECTORY": str(clone.git_dir / "objects")}
        with _named(clone, *sides) as git:
            clone.merges[sides] = merge_tree(
                clone, *sides, git=git, names=(MERGED_BEFORE, THIS_SUBTASK), variables=objects
            )
    return clone.merges[sides]


def receive_merge(clone: PrivateClone, start: str, theirs: str, told: bytes) -> None:
    """Take a merge as another process left it, its objects being here: made again it might come out otherwise."""
    clone.merges[start, theirs] = parsed(told, clean=False, id_length=len(start))


@contextmanager
def _named(clone: PrivateClone, start: str, theirs: str) -> Iterator[GitAt]:
    git_dir = clone.directory / f".merging-{secrets.token_hex(6)}"
    try:
        clone.worktree_git_dir(git_dir, start)
        _name_sides(git_dir, start, theirs)
        yield GitAt(git_dir=git_dir, private=True)
    finally:
        remove_tree(git_dir)


def _name_sides(git_dir: Path, start: str, theirs: str) -> None:
    for name, commit in ((MERGED_BEFORE, start), (THIS_SUBTASK, theirs)):
        (git_dir / "refs" / name).write_text(f"{commit}\n")


def conflict_description(clone: PrivateClone, start: str, theirs: str) -> str:
    """What conflicts between two commits, in words."""
    return describe(merge_left(clone, start, theirs))


def unresolved(clone: PrivateClone, worktree: Worktree, theirs: str) -> tuple[str, ...]:
    """Names of files that still hold markers, or one side under the name that git gave it."""
    return unresolved_in(clone, staged_tree(clone, worktree), worktree.base, theirs)


def unresolved_in(clone: PrivateClone, tree: str, base: str, theirs: str) -> tuple[str, ...]:
    """The same of a tree, or of the one of a commit.

    Looked at is whatever differs from the merge as git left it, and not only the files that conflicted: an agent may
    have moved one. Binary files and deletions leave nothing to be found.
    """
    merged = merge_left(clone, base, theirs)
    conflicts = frozenset(merged.conflicts)
    changes = _changes(clone, merged.tree, tree)
    # What was not touched does not differ from the merge; if it has markers, it differs from what it was before.
    left = [one for one in _changes(clone, base, tree) if one.name in conflicts or left_over(one.name)]
    written = {change.name: change.new for change in [*left, *changes] if change.new is not None}
    sides = [stage.blob for stage in merged.stages if stage.mode.startswith(_REGULAR)]
    sides += [change.old for change in changes if change.old is not None and change.name not in conflicts]
    contents = {blob: text for blob, text in read_blobs(clone.git, [*written.values(), *sides]).items() if _text(text)}
    known = Sides(contents[blob] for blob in dict.fromkeys(sides) if blob in contents)
    sizes = _marker_sizes(clone, base, list(written))

    def marked(name: str, blob: str) -> bool:
        return blob in contents and known.leaves_markers(contents[blob], sizes[name], conflicted=name in conflicts)

    return tuple(shown(name) for name, blob in written.items() if left_over(name) or marked(name, blob))


@dataclass(frozen=True, slots=True)
class _Change:
    """A file that differs between two trees; None for a side on which no regular file has that name."""

    name: str
    old: str | None
    new: str | None


def _changes(clone: PrivateClone, old: str, new: str) -> list[_Change]:
    fields = iter(clone.git.run("diff-tree", "-r", "-z", "--no-renames", "--no-abbrev", old, new).names)
    changes = []
    for field in fields:
        old_mode, new_mode, old_blob, new_blob, _ = field.removeprefix(":").split(" ")
        before = old_blob if old_mode.startswith(_REGULAR) else None
        after = new_blob if new_mode.startswith(_REGULAR) else None
        changes.append(_Change(next(fields), before, after))
    return changes


def _marker_sizes(clone: PrivateClone, commit: str, names: Sequence[str]) -> dict[str, int]:
    """How long markers are in each file, by the attributes that its merge was made by."""
    feed = b"".join(os.fsencode(name) + b"\0" for name in names)
    with with_attributes(clone, clone.git, commit) as git:
        fields = git.run("check-attr", "-z", "--stdin", "conflict-marker-size", stdin=feed).stdout.split(b"\0")
    # Name, attribute, value, which may be empty; behind the last NUL there is nothing.
    values = [os.fsdecode(value) for value in fields[2::3]]
    sizes = [int(value) if _SIZE.fullmatch(value) else MARKER_SIZE for value in values]
    return dict(zip(names, sizes, strict=True))


def _text(content: bytes) -> bool:
    """As git tells it."""
    return b"\0" not in content[:_LOOKED_AT_BYTES]
