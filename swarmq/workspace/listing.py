"""Names of an agent's files as git lists them, for which it opens files of the agent's.

git waits for ever at a pipe: at one named ``.gitignore`` or ``.gitattributes``, and in what looks like a repository of
its own. A listing takes far less than a second, so one that takes long is ended, and such files are looked for. Where
there are some, they are written down beside our index: as long as they are there, git is not asked again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from swarmq.errors import GitTimeout, UncommittableError
from swarmq.workspace.git import GitAt, shown

LISTING_SECONDS = 30.0
"""A listing that no such file holds up may take longer, on a slow file system: it is begun again without this limit."""
HELD_SUFFIX = ".held"
NAMED = 3
_READ_BY_GIT = (".gitignore", ".gitattributes")


def list_files(view: GitAt, *options: str) -> list[str]:
    """``git ls-files``. Raises UncommittableError where a file of the agent's would hold git up."""
    root, index = view.work_tree, view.index
    if root is None or index is None:
        raise ValueError("a view has a work tree and an index")
    memory = index.with_name(index.name + HELD_SUFFIX)
    _refuse(name for name in _remembered(memory) if _holds_up(root / name))
    command = ("ls-files", *options, "-z")
    try:
        return replace(view, timeout_seconds=min(LISTING_SECONDS, view.timeout_seconds)).run(*command).names
    except GitTimeout:
        found = tuple(_pipes_in(root))
        memory.write_bytes(b"\0".join(map(os.fsencode, found)))
        _refuse(found)
        return view.run(*command).names


def refuse_pipes(root: Path, names: Iterable[str]) -> None:
    """Raise UncommittableError where a pipe is in the place of attributes that git reads for one of these files."""
    directories = {""}
    for name in names:
        parent = os.path.dirname(name)
        while parent not in directories:
            directories.add(parent)
            parent = os.path.dirname(parent)
    attributes = (os.path.join(directory, ".gitattributes") for directory in sorted(directories))
    _refuse(name for name in attributes if _holds_up(root / name))


def _refuse(names: Iterable[str]) -> None:
    named = [shown(name) for name in names]
    if named:
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise UncommittableError(
            f"cannot be committed: git reads {', '.join(named[:NAMED])}{more}, and that is neither a file nor a link"
        )


def _remembered(memory: Path) -> list[str]:
    try:
        return [os.fsdecode(name) for name in memory.read_bytes().split(b"\0") if name]
    except FileNotFoundError:
        return []


def _holds_up(path: Path) -> bool:
    """Whether opening or reading it may never end: a pipe, a device."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _pipes_in(root: Path) -> Iterator[str]:
    """Those that git reads on its way, but in the agent's own ``.git``, at which it does not look."""
    for where, directories, files in os.walk(root):
        inside = os.path.relpath(where, root)
        if inside == ".":
            directories[:] = [name for name in directories if name != ".git"]
        nested = ".git" in inside.split(os.sep)
        for name in files:
            if (nested or name in _READ_BY_GIT) and _holds_up(Path(where, name)):
                yield os.path.normpath(os.path.join(inside, name))
