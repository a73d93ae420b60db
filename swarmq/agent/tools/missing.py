"""What to say of a path that is not there: the nearest that is."""

from __future__ import annotations

import difflib
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from swarmq.agent.tools.context import ToolContext
from swarmq.errors import ToolError

SUGGESTIONS = 3
_MOST_ENTRIES = 5_000
_MOST_COMPARED = 500


def no_such_file(given: str, context: ToolContext) -> ToolError:
    """Names up to three paths: the same end elsewhere, the same name elsewhere, a similar name beside. Blocking."""
    root = context.working_directory()
    found = dict.fromkeys([*_same_end(root, given), *_beside(root, given), *_same_name(root, Path(given).name)])
    near = [str(path.relative_to(root)) for path in list(found)[:SUGGESTIONS]]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ToolError(f"{given} does not exist{hint}")


def _same_end(root: Path, given: str) -> list[Path]:
    """``/repo/src/a.py`` or ``repo/src/a.py`` where ``src/a.py`` is there: the model guessed what is above the root."""
    parts = [part for part in Path(given).parts if part not in ("/", "..", ".")]
    candidates = (root.joinpath(*parts[index:]) for index in range(1, min(len(parts), 20)))
    return [path for path in candidates if path.exists()][:1]


def _beside(root: Path, given: str) -> list[Path]:
    parent = (root / given).parent
    if not parent.is_relative_to(root) or ".." in parent.parts:
        return []
    names: list[str] = []
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) >= _MOST_COMPARED:
                break
    return [parent / name for name in difflib.get_close_matches(Path(given).name, names, SUGGESTIONS, cutoff=0.7)]


def _same_name(root: Path, name: str) -> list[Path]:
    """Breadth first and bounded: near the root is where most files are meant to be."""
    found: list[Path] = []
    waiting, seen = deque([root]), 0
    while waiting and seen < _MOST_ENTRIES and len(found) < SUGGESTIONS:
        directory = waiting.popleft()
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                seen += 1
                if entry.name == name:
                    found.append(Path(entry.path))
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    waiting.append(Path(entry.path))
    return found
