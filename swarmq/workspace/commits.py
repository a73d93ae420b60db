"""From an agent's files to commits: checkpoints while it works, one finished commit at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import UncommittableError, WorkspaceError
from swarmq.workspace.adoption import adopted_head
from swarmq.workspace.commit_object import CommitObject, checkpoint_message, with_trailers
from swarmq.workspace.copied_names import copied_names
from swarmq.workspace.git import IDENTITY
from swarmq.workspace.loose_objects import store_commit
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.staging import changed_names, numstat, stage, write_tree
from swarmq.workspace.worktrees import Worktree, fence, index_of, view_of

RACY_SECONDS = 2.0
"""git compares a file's time with that of the index, in whole seconds: as long as the index is of the same second as
the checkout it reads every file each time. So it is written once more when that second is over (5,000 files: 50 ms a
look before, 10 ms after)."""

REFUSED_NAMED = 3
"""Files beyond these are not named in an error, which is one line."""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A finished commit. ``files`` are all that differ from the branch's base, both names of a renamed one."""

    commit: str
    files: tuple[str, ...]
    insertions: int
    deletions: int


def signature(role: str, person: str, at: int) -> bytes:
    """The header of a commit that names a person (``Name <email>``); ``at`` is Unix seconds."""
    name, _, email = person.partition("<")
    # Neither part may hold what would end it.
    name = re.sub(r"[<>\s\0-\x1f]+", " ", name).strip() or "swarmq"
    email = re.sub(r"[<>\s\0-\x1f]+", "", email) or "swarmq@localhost"
    return f"{role} {name} <{email}> {at} +0000".encode("utf-8", "surrogateescape")


def checkpoint(clone: PrivateClone, worktree: Worktree, previous: str | None) -> str | None:
    """Save the files as a commit on the branch's checkpoint ref; None where ``previous`` (or the start) holds them.

    Raises WorkspaceError if a newer token has taken the branch over.
    """
    tree = staged_tree(clone, worktree)
    head = adopted_head(clone, worktree)
    if (tree, head) == _last(clone, worktree, previous):
        return None
    message = checkpoint_message(worktree.base, worktree.token)
    commit = write_commit(clone, tree, (head,), message.encode())
    with fence(clone, worktree.branch_id, worktree.token) as check:
        move_ref(clone, clone.checkpoint_ref(worktree.branch_id), commit, previous, check)
    clone.saved[commit] = (tree, head)
    return commit


def _last(clone: PrivateClone, worktree: Worktree, previous: str | None) -> tuple[str, str]:
    """The tree that is saved already, and the commit that it stands on."""
    if previous is None:
        return clone.commit(worktree.start).tree, worktree.head
    if previous not in clone.saved:
        found = clone.commit(previous)
        clone.saved[previous] = found.tree, "".join(found.parents[:1])
    return clone.saved[previous]


def commit(
    clone: PrivateClone,
    worktree: Worktree,
    message: str,
    trailers: Mapping[str, str],
    author: str,
    theirs: str | None = None,
) -> CommitInfo | None:
    """The finished commit of a branch, on its work ref; None where its files are those of its base.

    Commits that the agent made itself are kept below it; if they hold everything, the last of them gets the trailers.
    With ``theirs`` it is a merge of both, also where that leaves the base's files as they are. Called again, it gives
    the commit that is there. Raises UncommittableError for what ``refused_files`` names.
    """
    tree, refused = _staged(clone, worktree, strict=True)
    if refused:
        raise UncommittableError(f"cannot be committed: {'; '.join(refused[:REFUSED_NAMED])}")
    if theirs is None and tree == clone.commit(worktree.base).tree:
        return None
    head = adopted_head(clone, worktree)
    own = clone.commit(head)
    parents = (head,) if theirs is None or clone.contains(head, valid_commit(theirs)) else (head, theirs)
    rewrites = parents == (head,) and head != worktree.base and own.tree == tree
    ref = clone.work_ref(worktree.branch_id)
    done = clone.resolve(ref)
    made = done if done is not None and _same(clone, done, tree, (parents, own.parents)) else None
    if made is None and rewrites:
        made = clone.write_commit(own.rewritten(own.parents, trailers))
    elif made is None:
        text = with_trailers(message.replace("\0", ""), trailers).encode("utf-8", "surrogateescape")
        made = write_commit(clone, tree, parents, text, author)
    with fence(clone, worktree.branch_id, worktree.token) as check:
        if made != done:
            move_ref(clone, ref, made, done, check)
    return CommitInfo(made, *numstat(clone.git, worktree.base, made))


def write_commit(clone: PrivateClone, tree: str, parents: Sequence[str], message: bytes, author: str = IDENTITY) -> str:
    """Store a commit of ours; its id."""
    now = int(time.time())
    headers = signature("author", author, now), signature("committer", IDENTITY, now)
    return store_commit(clone.git_dir / "objects", CommitObject(tree, tuple(parents), headers, message))


def changed_files(clone: PrivateClone, worktree: Worktree) -> tuple[str, ...]:
    """Names of the files that differ from the branch's base."""
    if worktree.token == 0:  # readers share their index: it is only read
        return tuple(changed_names(view_of(clone, worktree)))
    tree = staged_tree(clone, worktree)
    return numstat(clone.git, worktree.base, tree)[0]


def refused_files(clone: PrivateClone, worktree: Worktree) -> tuple[str, ...]:
    """Why files that are there cannot become part of a finished commit; each names its file."""
    try:
        return _staged(clone, worktree, strict=False)[1]
    except UncommittableError as error:  # git cannot even look
        return (str(error),)


def staged_tree(clone: PrivateClone, worktree: Worktree) -> str:
    """The tree of the files as they are, without those that cannot be committed."""
    return _staged(clone, worktree, strict=False)[0]


def _staged(clone: PrivateClone, worktree: Worktree, *, strict: bool) -> tuple[str, tuple[str, ...]]:
    """The tree and what is refused. git is asked to write it only where the index changed since the last time."""
    view, index = view_of(clone, worktree), index_of(clone, worktree)
    if not index.is_file():
        raise WorkspaceError(f"the worktree {worktree.path} has been removed")
    seconds_old = time.time() - index.stat().st_mtime
    found = stage(view, strict=strict, left_out=copied_names(clone, worktree.path))
    if worktree.path not in clone.settled and seconds_old > RACY_SECONDS:
        if not found.changed:
            view.run("update-index", "--force-write-index")
        clone.settled.add(worktree.path)
    known = clone.staged.get(worktree.path)
    if known is not None and known[0] == _identity(index):
        return known[1], found.refused
    tree = write_tree(view)
    clone.staged[worktree.path] = (_identity(index), tree)
    return tree, found.refused


def _identity(index: Path) -> tuple[int, int, int]:
    """git replaces an index when it changes it."""
    found = index.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _same(clone: PrivateClone, done: str, tree: str, histories: Collection[tuple[str, ...]]) -> bool:
    """Whether a finished commit holds these files on one of those parents, so that none is made again."""
    found = clone.commit(done)
    return found.tree == tree and found.parents in histories


def move_ref(clone: PrivateClone, ref: str, new: str, expected: str | None, check: Callable[[], None]) -> None:
    """Move a ref of a branch in whose fence the caller is.

    It may stand elsewhere than the record says, if a holder died between moving it and recording that; whoever holds
    the newest token goes on from the record, so the ref is moved from where it stands. A holder that was paused behind
    its first check finds here that it is not the newest any more, before it moves what the next one has written.
    """
    if clone.swap(ref, new, expected):
        return
    standing = clone.resolve(ref)
    check()
    if standing != new and not clone.swap(ref, new, standing):
        raise WorkspaceError(f"{ref} was moved by another process meanwhile")
