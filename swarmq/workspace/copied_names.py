"""Which files were copied into a worktree: they are never committed, whatever an agent writes into ``.gitignore``.

The names are kept beside the worktrees, out of the agents' reach. Copied are files that the user's repository ignores:
settings and keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from swarmq.workspace.private_clone import PrivateClone


def copied_names(clone: PrivateClone, worktree: Path) -> frozenset[str]:
    """Names that are left out of every commit of this worktree."""
    try:
        return frozenset(os.fsdecode(name) for name in _list_of(clone, worktree).read_bytes().split(b"\0") if name)
    except FileNotFoundError:
        return frozenset()


def note_copied(clone: PrivateClone, worktree: Path, names: Iterable[str]) -> None:
    """Add names, before the files are there: a process may end in between. Adding them again changes nothing."""
    path = _list_of(clone, worktree)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Ends of names come first as well: where a process ended in the middle of one, the next begins anew.
    with path.open("ab") as file:
        file.write(b"".join(b"\0" + os.fsencode(name) + b"\0" for name in names))


def _list_of(clone: PrivateClone, worktree: Path) -> Path:
    return clone.copied / worktree.name
