"""Which files a subtask says that it will change: paths and globs, what they match, and whether two may meet. Pure.

``*``, ``?`` and ``[abc]`` stay within one name, ``**`` stands for any number of directories, and a path stands for all
that is below it too: ``src``, ``src/`` and ``src/**`` are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

MAX_GLOBS = 50
MAX_GLOB_CHARACTERS = 300
_ANY_DEPTH = "**"
_NAME_PART = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)


def checked_globs(values: Sequence[str]) -> tuple[str, ...]:
    """Each once, without ``./`` before and ``/`` behind it. ValueError for what is no path inside a repository."""
    if len(values) > MAX_GLOBS:
        raise ValueError(f"at most {MAX_GLOBS} paths or globs (got {len(values)}); name their directory instead")
    return tuple(dict.fromkeys(_checked(value) for value in values))


FileGlobs = Annotated[tuple[str, ...], AfterValidator(checked_globs)]


def _checked(value: str) -> str:
    glob = value.strip()
    if glob.startswith("/"):
        raise ValueError(f"{value!r:.80} is absolute; paths are relative to the root of the repository")
    names = [name for name in glob.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValueError(f"{value!r:.80} leads out of the repository")
    if not glob or len(glob) > MAX_GLOB_CHARACTERS or not glob.isprintable():
        raise ValueError(f"{value!r:.80} is no path: 1 to {MAX_GLOB_CHARACTERS} printable characters are")
    return "/".join(names) or _ANY_DEPTH


def matches(path: str, glob: str) -> bool:
    """Whether the glob stands for that file."""
    return _meet(path.split("/"), _names(glob), fnmatchcase)


def may_meet(one: str, other: str) -> bool:
    """Whether there may be a file that both stand for; ``[…]`` counts as any character, so it may say so too often."""
    names, others = _names(one), _names(other)
    for name, its in zip(names, others, strict=False):  # most are apart at their first names
        if name == _ANY_DEPTH or its == _ANY_DEPTH:
            break
        if name != its and not _names_meet(name, its):
            return False
    return _meet(names, others, _names_meet)


@lru_cache(maxsize=4096)
def _names(glob: str) -> tuple[str, ...]:
    return (*glob.split("/"), _ANY_DEPTH)


@lru_cache(maxsize=16384)
def _names_meet(one: str, other: str) -> bool:
    if not (set(one) | set(other)) & set("*?["):
        return one == other
    return _meet(_parts(one), _parts(other), lambda a, b: a == b or "?" in (a, b))


def _parts(name: str) -> tuple[str, ...]:
    """Characters, ``?`` for any one and ``**`` for any number of them."""
    found = _NAME_PART.findall(name)
    return tuple(_ANY_DEPTH if part[0] == "*" else "?" if len(part) > 1 else part for part in found)


def _meet(one: Sequence[str], other: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    """Whether some sequence fits both patterns, in which ``**`` stands for any number of elements.

    Row by row: ``row[j]`` tells whether what is left of ``one`` can meet ``other`` from j on.
    """
    row = [all(part == _ANY_DEPTH for part in other[j:]) for j in range(len(other) + 1)]
    for part in reversed(one):
        after, row = row, [False] * (len(other) + 1)
        for j in range(len(other), -1, -1):
            more = j < len(other)
            if part == _ANY_DEPTH:
                row[j] = after[j] or (more and row[j + 1])
            elif more and other[j] == _ANY_DEPTH:
                row[j] = row[j + 1] or after[j]
            else:
                row[j] = more and after[j + 1] and same(part, other[j])
    return row[0]
