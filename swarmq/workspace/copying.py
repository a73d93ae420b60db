"""Copying ignored files that the work needs (settings, keys for tests) from the user's checkout into a worktree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from swarmq.errors import WorkspaceError
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.worktrees import Worktree


def copy_ignored(clone: PrivateClone, worktree: Worktree, globs: Sequence[str]) -> tuple[str, ...]:
    """Copy the ignored files that match a glob (``**`` crosses directories); a directory's name means all in it.

    Links are copied as links, and what is there already stays.
    """
    copied: list[str] = []
    root = os.path.realpath(worktree.path)
    checkout = GitAt(directory=clone.repo)
    for glob in globs:
        listed = ("ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--", f":(top,glob){glob}")
        for name in checkout.run(*listed).names:
            if name.endswith("/"):  # a nested repository
                continue
            target = worktree.path / name
            inside = os.path.realpath(target.parent)
            if inside != root and not inside.startswith(root + os.sep):
                raise WorkspaceError(f"copy: {name!r} would leave the worktree through a link")
            if os.path.lexists(target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(clone.repo / name, target, follow_symlinks=False)
            copied.append(name)
    return tuple(copied)
