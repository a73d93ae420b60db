"""Worktrees of a private clone: made whole or not at all, one new one for each fencing token."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import WorkspaceError
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone, publish_directory, valid_branch, valid_commit
from swarmq.workspace.staging import changed_names

READER_PREFIX = "read-"
READER_PATIENCE_SECONDS = 10.0
"""Who makes the checkout of a stage's readers may have been stopped in the middle of it."""
DOOMED = ".doomed-"
"""What is being removed is renamed to this and some digits."""
_REMOVAL_ROUNDS = 5
_LOCK_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Worktree:
    """``start`` is the commit its files came from: the branch's base, or a checkpoint of the branch.

    ``base`` is what the branch's work is measured against, ``head`` where the agent's HEAD stood at the beginning;
    both are ``start`` but for a resumed branch. Readers have token 0.
    """

    path: Path
    branch_id: str
    start: str
    token: int
    base: str
    head: str


def index_of(clone: PrivateClone, worktree: Worktree) -> Path:
    """Our own index of a worktree; that of the agent is never used."""
    return clone.indexes / worktree.path.name


def view_of(clone: PrivateClone, worktree: Worktree) -> GitAt:
    """git with our repository and our index on the agent's files."""
    return GitAt(git_dir=clone.git_dir, work_tree=worktree.path, index=index_of(clone, worktree), private=True)


@contextmanager
def fence(clone: PrivateClone, branch_id: str, token: int) -> Iterator[Callable[[], None]]:
    """Work as the holder of this token; yields a check to repeat right before what an older one must not do.

    Raises WorkspaceError, as the check does, where a newer token was here. Each token has a file of its own, which is
    there from the holder's first call on, and is locked among the calls of that holder alone: an older one that is
    stopped in the middle, lock in hand, keeps nobody waiting.
    """
    tokens = clone.fences / valid_branch(branch_id)

    def check() -> None:
        newest = max(int(name) for name in os.listdir(tokens))
        if newest > token:
            raise WorkspaceError(f"branch {branch_id} was taken over: token {token} is older than {newest}")

    with locked(tokens / str(token)):
        check()
        yield check


@contextmanager
def locked(path: Path, patience_seconds: float | None = None) -> Iterator[None]:
    """Hold a lock across processes; it dies with its holder. With a patience, go on without it when that is over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if patience_seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_for(file, patience_seconds)
        yield
    finally:
        os.close(file)


def _lock_for(file: int, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return


def open_worktree(
    clone: PrivateClone, branch_id: str, token: int, start: str, equip: Callable[[Path], None] | None = None
) -> Worktree:
    """The worktree of this token, at ``start``. Made once; called again, it is returned with what the agent did.

    ``equip`` is given the agent's new git directory.
    """
    with fence(clone, branch_id, token):
        base = clone.commit(start).checkpoint_base if start != clone.base_commit else None
        head = start if base is None else clone.commit(start).parents[0]
        path = clone.worktrees / f"{branch_id}-{token}"
        worktree = Worktree(path, branch_id, start, token, base or start, head)
        if not ready(clone, worktree):
            _build(clone, worktree, equip)
        return worktree


def open_reader(clone: PrivateClone, stage: int, commit: str) -> Worktree:
    """The checkout that the readers of a stage share; one that somebody has written to is not given out again."""
    number = 1
    while True:
        suffix = "" if number == 1 else f".{number}"
        path = clone.worktrees / f"{READER_PREFIX}{stage}@{commit[:12]}{suffix}"
        worktree = Worktree(path, "", commit, 0, commit, commit)
        # Without the lock two would make the same, and the first keeps its: nothing worse.
        with locked(clone.fences / path.name, READER_PATIENCE_SECONDS):
            if not ready(clone, worktree):
                _build(clone, worktree)
                return worktree
        if not changed_names(view_of(clone, worktree)):
            return worktree
        number += 1


def open_detached(clone: PrivateClone, name: str, commit: str) -> Worktree:
    """A checkout of a commit for one look at it; each call makes a new one, which nobody else is given."""
    path = clone.worktrees / f"{valid_branch(name)}@{valid_commit(commit)[:12]}-{secrets.token_hex(3)}"
    worktree = Worktree(path, "", commit, 0, commit, commit)
    _build(clone, worktree)
    return worktree


def ready(clone: PrivateClone, worktree: Worktree) -> bool:
    path = worktree.path
    return path.is_dir() and not path.is_symlink() and index_of(clone, worktree).is_file()


def _build(clone: PrivateClone, worktree: Worktree, equip: Callable[[Path], None] | None = None) -> None:
    with making(clone, worktree) as files:
        agents = check_out(files, worktree.start)
        if worktree.head != worktree.start:  # a resumed agent sees its uncommitted changes as such
            agents.run("read-tree", worktree.head)
        if equip is not None and files.work_tree is not None:
            equip(files.work_tree / ".git")


def check_out(files: GitAt, tree: str) -> GitAt:
    """Write the files of a tree; git on the agent's own index of them, which is a copy of ours."""
    if files.work_tree is None or files.index is None:
        raise ValueError("a worktree in the making has both")
    files.run("read-tree", "--reset", "-u", tree)
    index = files.work_tree / ".git" / "index"
    shutil.copyfile(files.index, index)
    return GitAt(git_dir=files.git_dir, index=index)


@contextmanager
def making(clone: PrivateClone, worktree: Worktree) -> Iterator[GitAt]:
    """Where a worktree is made under another name, with the agent's git directory at ``head``; renamed at the end.

    What it yields writes files and our index of them. One process and no lock of git's.
    """
    remove_tree(worktree.path)  # a directory without its index is no worktree of ours, or half of one
    for directory in (clone.worktrees, clone.indexes):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    suffix = secrets.token_hex(6)
    place = clone.worktrees / f".making-{suffix}"
    index = clone.indexes / f".making-{suffix}"
    try:
        place.mkdir(mode=0o700)
        clone.worktree_git_dir(place / ".git", worktree.head)
        yield GitAt(git_dir=clone.git_dir, work_tree=place, index=index, private=True)
        index.replace(index_of(clone, worktree))
        publish_directory(place, worktree.path)
    finally:
        remove_tree(place)
        index.unlink(missing_ok=True)


def remove_worktree(clone: PrivateClone, path: Path) -> None:
    """Remove a directory below ``worktrees`` and what we know of it; its commits stay in the clone."""
    if path.parent != clone.worktrees:
        raise WorkspaceError(f"{path} is not a worktree of swarm {clone.swarm_id}")
    remove_tree(path)
    (clone.indexes / path.name).unlink(missing_ok=True)
    (clone.copied / path.name).unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory whatever an agent did to it; under its own name it is there whole or not at all."""
    doomed = path
    if not path.name.startswith("."):
        doomed = path.with_name(f"{DOOMED}{secrets.token_hex(6)}")
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
    for last in [*[False] * (_REMOVAL_ROUNDS - 1), True]:
        try:
            if doomed.is_symlink() or doomed.is_file():
                doomed.unlink()
            else:
                shutil.rmtree(doomed)
        except FileNotFoundError:
            if not doomed.exists():
                return
        except OSError:  # no permission in some directory, or a process that still runs added a file
            if last:
                raise
            _open_directories(doomed)
        else:
            return


def _open_directories(top: Path) -> None:
    """Directories without write permission cannot be emptied; Go's module cache makes such."""
    top.chmod(stat.S_IRWXU)
    for root, directories, _ in os.walk(top):
        for name in directories:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(stat.S_IRWXU)
