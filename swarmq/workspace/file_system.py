"""What the file system of a directory can hold, as git's settings say it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

_COMPOSED, _DECOMPOSED = "\u00e4", "a\u0308"
"""One letter in two spellings; file systems of Apple's take them for the same name."""


def file_system_settings(directory: Path) -> list[tuple[str, str]]:
    """The settings that ``git init`` finds out where it makes a repository; all of them, as none may come from others.

    Those of the user's repository are of the file system of its checkout, which may be another one: in a container,
    on a mounted volume. A wrong ``ignorecase`` makes git leave out files whose names differ in case only.
    """
    probe = directory / "pRoBe"
    probe.touch(mode=0o600)
    try:
        settings = [
            ("core.filemode", _told(_keeps_modes(probe))),
            ("core.symlinks", _told(_holds_links(directory / "link"))),
            ("core.ignorecase", _told(os.path.lexists(directory / "PrObE"))),
        ]
    finally:
        probe.unlink()
    if sys.platform == "darwin":  # git knows it nowhere else
        settings.append(("core.precomposeunicode", _told(_decomposes(directory))))
    return settings


def _told(answer: bool) -> str:
    return "true" if answer else "false"


def _keeps_modes(file: Path) -> bool:
    """Whether the bit of its owner to execute a file can be set, is kept, and can be taken away."""
    seen = []
    with contextlib.suppress(PermissionError):  # mounted with one mode for all
        for mode in (0o700, 0o600):
            file.chmod(mode)
            seen.append(bool(file.stat().st_mode & stat.S_IXUSR))
    return seen == [True, False]


def _holds_links(link: Path) -> bool:
    try:
        link.symlink_to("anywhere")
    except OSError:
        return False
    holds = link.is_symlink()
    link.unlink()
    return holds


def _decomposes(directory: Path) -> bool:
    probe = directory / _COMPOSED
    probe.touch(mode=0o600)
    try:
        return os.path.lexists(directory / _DECOMPOSED)
    finally:
        probe.unlink()
