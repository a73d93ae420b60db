"""Which files the agent has seen, and in which state: what changed behind its back is not overwritten."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from swarmq.errors import ToolError


class Stamp(NamedTuple):
    """Changes with the content. A replaced file has another inode, a rewritten one another time or size."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Stamps:
    """The stamp of each file at the agent's last look. One for each branch and holder (see ``recall``)."""

    def __init__(self) -> None:
        self._seen: dict[Path, Stamp] = {}

    def saw(self, path: Path, status: os.stat_result) -> None:
        self._seen[path] = Stamp.of(status)

    def forget(self, path: Path) -> None:
        self._seen.pop(path, None)

    def knows(self, path: Path) -> bool:
        return path in self._seen

    def check(self, path: Path, status: os.stat_result, shown: str) -> None:
        """Raises ToolError where the file has changed since. A file that was never read passes.

        An exact match proves by itself that the agent knows what it edits; only overwriting asks for ``knows``.
        """
        seen = self._seen.get(path)
        if seen is not None and seen != Stamp.of(status):
            raise ToolError(f"{shown} has changed since you last read it; read it again first")
