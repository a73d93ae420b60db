"""Paths that a model names: resolved with all symlinks followed, then checked. Blocking, so called in a thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from swarmq.errors import ToolError

MAX_PATH_BYTES = 4096


def resolve_inside(root: Path, given: str) -> Path:
    """The real path of ``given``, relative to ``root`` or absolute; it need not exist.

    Raises ToolError, naming the rule, for a path that leads out of ``root`` or into git's own files.
    """
    return resolve_in_any((root.resolve(),), given)


def resolve_in_any(real_roots: Sequence[Path], given: str) -> Path:
    """Like ``resolve_inside``, for a path in any of several directories; relative ones belong to the first.

    The directories must be resolved already: that costs half of the time of a small read.
    """
    _check_text(given)
    real = _plain(str(real_roots[0]), given) or _real_path(os.path.join(real_roots[0], given), given)
    for root in map(str, real_roots):
        if real == root or real.startswith(root.rstrip("/") + "/"):
            _refuse_git(real[len(root) :], given)
            return Path(real)
    raise ToolError(f"{given!r} leads out of the working directory; only paths inside it can be used")


def _plain(root: str, given: str) -> str | None:
    """The path if every part of it is there and none is a symlink or a way back; the most frequent case, cheaply."""
    path = root
    for part in given.removeprefix(root + "/").split("/"):
        if part in ("", ".", ".."):
            return None
        path = f"{path}/{part}"
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return None
        except OSError:
            return None
    return path


def _check_text(given: str) -> None:
    if not given:
        raise ToolError("the path is empty")
    if "\0" in given:
        raise ToolError("the path has a NUL character")
    if given == "~" or given.startswith("~/"):
        raise ToolError(f"{given!r}: '~' is not expanded; use a path inside the working directory")
    try:
        length = len(given.encode())
    except UnicodeEncodeError:
        raise ToolError("the path is not valid Unicode") from None
    if length > MAX_PATH_BYTES:
        raise ToolError(f"the path has {length} bytes; the system takes {MAX_PATH_BYTES}")


def _real_path(path: str, given: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise ToolError(f"{given!r}: {error.strerror}") from None
    real = os.path.realpath(path)
    # Behind a loop of symlinks realpath leaves the rest unresolved: what is not final may lead anywhere.
    if os.path.realpath(real) != real:
        raise ToolError(f"{given!r}: its symbolic links cannot be resolved")
    return real


def _refuse_git(relative: str, given: str) -> None:
    # Compared without case: .GIT is the same directory on macOS.
    if any(part.lower() == ".git" for part in relative.split("/")):
        raise ToolError(f"{given!r} belongs to git itself; tools neither read nor write .git")
