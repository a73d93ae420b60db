"""``AGENTS.md`` files of a repository, as its convention says: the one nearest to a file speaks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import ToolError
from swarmq.workspace.guard import resolve_inside

FILE_NAME = "AGENTS.md"
MAX_CHARACTERS = 32_000
"""Of all files together; what is over it is named, to be read when it matters."""
_MAX_DEPTH = 6
_MAX_DIRECTORIES = 5000
_SKIPPED = {"node_modules", "venv", "__pycache__", "site-packages", "vendor", "target", "dist", "build"}


@dataclass(frozen=True)
class Instructions:
    """One file. ``directory`` is relative to the repository (``.`` is its root); ``text`` is None if it is too long."""

    directory: str
    text: str | None


def read_instructions(root: Path) -> tuple[Instructions, ...]:
    """All files, root first and nearest last. Blocking; a file that leads out of the repository is ignored."""
    found: list[Instructions] = []
    left_characters = MAX_CHARACTERS
    for directory in _directories(root):
        path = directory / FILE_NAME
        if not path.is_file() or not _inside(root, path):
            continue
        with path.open("rb") as file:
            # One more than what is left shows that it does not fit; a character has at most four bytes.
            text = file.read(4 * (left_characters + 1)).decode("utf-8", "replace").strip()
        fits = len(text) <= left_characters
        left_characters -= len(text) if fits else 0
        found.append(Instructions(directory.relative_to(root).as_posix(), text if fits else None))
    return tuple(found)


def _inside(root: Path, path: Path) -> bool:
    """The file is the repository's, and no link to one of the machine's."""
    try:
        resolve_inside(root, str(path))
    except ToolError:
        return False
    return True


def _directories(root: Path) -> Iterator[Path]:
    """Breadth first and sorted, so that the same tree gives the same prompt; no links, hidden or built directories."""
    level, seen = [root], 0
    for _ in range(_MAX_DEPTH + 1):
        below: list[Path] = []
        for directory in level:
            yield directory
            seen += 1
            if seen >= _MAX_DIRECTORIES:
                return
            below += _children(directory)
        level = below


def _children(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it may go, or be closed to us, while we look
        return []
    return [directory / name for name in sorted(names) if not name.startswith(".") and name not in _SKIPPED]
