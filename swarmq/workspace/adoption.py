"""Commits that an agent made itself: found without running git in the agent's repository, and copied into ours.

Everything in a worktree's ``.git`` may have been written by the agent: its files are read as plain, bounded files, its
objects through ``GIT_ALTERNATE_OBJECT_DIRECTORIES`` of our own repository, and copied by ``index-pack --strict``,
which computes every id again and refuses what is malformed or incomplete. Where any of that fails, the agent's files
still become a commit of ours; only the steps on the way are lost.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from swarmq.errors import WorkspaceError
from swarmq.workspace.copied_names import copied_names
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.staging import MAX_FILE_BYTES
from swarmq.workspace.worktrees import Worktree

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"ref: (refs/[^\s\0]{1,255})")
_HEAD_BYTES = 1024
_PACKED_REFS_BYTES = 16 * 1024 * 1024
PACK_BYTES = 2 * MAX_FILE_BYTES
"""More than this is not copied (and a pack that is cut is refused)."""
READING_SECONDS = 30.0
"""An object that is a pipe would hold git for ever; the agent's files are taken without its steps then."""


def adopted_head(clone: PrivateClone, worktree: Worktree) -> str:
    """The commit that the agent's work stands on: its own last one, if that descends from the branch's base.

    Otherwise (HEAD moved back or to other history, ``.git`` deleted or broken, merges where none are kept, a commit
    with a file that was only copied here) the base: no work is lost, because the files are taken as they are.
    """
    head = head_of(worktree.path / ".git")
    if head is None:
        return worktree.base
    if head == worktree.base or (head == worktree.head and clone.keeps_merges):
        return head
    known = clone.adopted.get((worktree.path, head))
    if known is None:
        known = clone.adopted[worktree.path, head] = _adopt(clone, worktree, head)
    return known


def _adopt(clone: PrivateClone, worktree: Worktree, head: str) -> str:
    objects = worktree.path / ".git" / "objects"
    borrowing = GitAt(git_dir=clone.git_dir, borrowed=(objects,), private=True, timeout_seconds=READING_SECONDS)
    descends = ("merge-base", "--is-ancestor", worktree.base, head)
    try:
        if objects.is_symlink() or borrowing.run(*descends, accept=(0, 1)).status != 0:
            return worktree.base
        if not clone.keeps_merges and has_merges(borrowing, worktree.base, head):
            return worktree.base
        copied = copied_names(clone, worktree.path)
        if copied and _touches(borrowing, worktree.base, head, copied):
            return worktree.base
        wanted = f"{head}\n^{worktree.base}\n^{worktree.head}\n".encode()
        pack = borrowing.run("pack-objects", "--revs", "--stdout", "-q", stdin=wanted, limit_bytes=PACK_BYTES).stdout
        clone.git.run("index-pack", "--stdin", "--strict", stdin=pack)
        return head if clone.git.run(*descends, accept=(0, 1)).status == 0 else worktree.base
    except WorkspaceError:  # broken, endless or crafted objects
        return worktree.base


def _touches(git: GitAt, base: str, tip: str, names: Collection[str]) -> bool:
    """Whether a commit between the two adds, changes or removes one of these files."""
    if any("\n" in name for name in names):  # which the list cannot hold
        return True
    listed = "\n".join([tip, f"^{base}", "--", *names, ""])
    command = ("rev-list", "--max-count=1", "--full-history", "--stdin")
    return git.run(*command, stdin=os.fsencode(listed), variables={"GIT_LITERAL_PATHSPECS": "1"}).text != ""


def has_merges(git: GitAt, base: str, tip: str) -> bool:
    """Whether a commit between the two has more than one parent."""
    return git.run("rev-list", "--min-parents=2", "--max-count=1", tip, f"^{base}").text != ""


def head_of(git_dir: Path) -> str | None:
    """The commit id in HEAD, or in the ref that it names."""
    if git_dir.is_symlink():
        return None
    head = _read(git_dir / "HEAD", _HEAD_BYTES).strip()
    named = _REF.fullmatch(head)
    if named is not None and ".." not in named[1]:
        head = _read(git_dir / named[1], _HEAD_BYTES).strip() or _packed(git_dir, named[1])
    return head if _ID.fullmatch(head) else None


def _packed(git_dir: Path, ref: str) -> str:
    for line in _read(git_dir / "packed-refs", _PACKED_REFS_BYTES).splitlines():
        if line.endswith(f" {ref}"):
            return line.partition(" ")[0]
    return ""


def _read(path: Path, limit_bytes: int) -> str:
    """The start of a regular file; empty for anything else, above all for a pipe, which would block."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(file).st_mode):
                return os.read(file, limit_bytes).decode("utf-8", "replace")
        finally:
            os.close(file)
    return ""
