"""The files of a worktree as they were, to put them back after something ran that may not change them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from swarmq.workspace.adoption import head_of
from swarmq.workspace.commits import staged_tree
from swarmq.workspace.git import shown
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.staging import beyond_link, changed_names, numstat
from swarmq.workspace.worktrees import Worktree, remove_tree, view_of


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``untaken`` are files that no tree can hold (too large, unreadable, nested repositories); they are only named."""

    tree: str
    head: str | None
    untaken: frozenset[str]


def take_snapshot(clone: PrivateClone, worktree: Worktree) -> Snapshot:
    """All files that git does not ignore, and where the agent's HEAD stands."""
    tree = staged_tree(clone, worktree)
    return Snapshot(tree, head_of(worktree.path / ".git"), frozenset(changed_names(view_of(clone, worktree))))


def put_back(clone: PrivateClone, worktree: Worktree, before: Snapshot) -> tuple[str, ...]:
    """Undo what was done since the snapshot to files that git does not ignore; their names.

    Of files that the snapshot only names, what is in them is not known, and so stays.
    """
    view, path = view_of(clone, worktree), worktree.path
    after = staged_tree(clone, worktree)
    names = list(numstat(clone.git, before.tree, after)[0]) if after != before.tree else []
    left = [name for name in changed_names(view) if name not in before.untaken]
    if not names and not left:
        _put_back_head(path / ".git", before.head)
        return ()
    view.run("read-tree", "--reset", "-u", before.tree)
    for name in changed_names(view):
        if name not in before.untaken and not beyond_link(path, name):
            remove_tree(path / name)
    _put_back_head(path / ".git", before.head)
    return tuple(dict.fromkeys([*names, *map(shown, left)]))


def _put_back_head(git_dir: Path, head: str | None) -> None:
    """A commit that was made meanwhile is no work of the agent's."""
    if head is None or head_of(git_dir) == head or git_dir.is_symlink() or not git_dir.is_dir():
        return
    making = git_dir / f".swarmq-{secrets.token_hex(6)}"
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{head}\n")
    making.replace(git_dir / "HEAD")
