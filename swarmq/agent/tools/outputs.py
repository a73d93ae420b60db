"""Full texts of tool outputs that were too long to show: files of the branch, read in pages as ``output://ID``."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from swarmq.agent.tools.text import head_and_tail
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking

SCHEME = "output://"
KEPT_BYTES = 500_000_000
"""All outputs of one branch; beyond it the oldest are dropped."""


class Outputs:
    """Numbers are never used twice, also by a worker that takes the branch over."""

    def __init__(self, directory: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self._directory, self._kept_bytes = directory, kept_bytes
        self._last = 0

    async def reserve(self) -> tuple[str, Path]:
        """The name under which the next output can be read, and the file to write it to; nothing is made yet."""
        highest = await run_blocking(self._tidy)
        self._last = max(self._last, highest) + 1
        return f"{SCHEME}{self._last}", self._directory / f"{self._last}.txt"

    def _tidy(self) -> int:
        """Drop the oldest outputs where all take too much room; returns the highest number in use."""
        sizes: dict[int, int] = {}
        with suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix == ".txt" and stem.isascii() and stem.isdigit():
                    sizes[int(stem)] = entry.stat().st_size
        total_bytes = sum(sizes.values())
        for number in sorted(sizes)[:-1]:
            if total_bytes <= self._kept_bytes:
                break
            (self._directory / f"{number}.txt").unlink(missing_ok=True)
            total_bytes -= sizes[number]
        return max(sizes, default=0)

    async def bounded(self, text: str, characters: int) -> str:
        """The text itself if it is short enough, else head and tail, and where the whole is."""
        if len(text) <= characters:
            return text
        name, path = await self.reserve()
        try:
            await run_blocking(_write, path, text)
        except OSError as error:
            rest = f"the whole could not be saved: {error.strerror}"
        else:
            rest = f"the whole: read {name}"
        return head_and_tail(text, characters, f"[... {{}} characters left out; {rest} ...]")

    def find(self, name: str) -> Path:
        """The file behind ``output://ID``; ToolError where there is none (any more)."""
        number = name.removeprefix(SCHEME)
        path = self._directory / f"{number}.txt"
        if not (number.isascii() and number.isdigit()) or not path.is_file():
            raise ToolError(f"there is no {name[:100]}; the tool whose output was cut has said its name")
        return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
