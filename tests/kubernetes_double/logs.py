"""A container's log as a node keeps it, and as it hands it out: what its kubelet does, tears and turns included.

A file holds ``TIME TAG TEXT`` a line; a line of the container over 16 KiB is several, all but the last tagged P. The
file is turned over at a size, and only the newest is ever read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

PART_BYTES = 16 << 10
_BLOCK_BYTES = 1 << 18


class ContainerLog:
    def __init__(self, path: Path, max_bytes: int = 10 << 20) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.done = False
        self.turns = 0
        self._file = path.open("ab")
        self._news = asyncio.Condition()
        self._changes = 0
        self._written = 0
        self._last_ns = 0

    async def write(self, text: bytes, *, whole: bool = True) -> None:
        """One line of the container without its end; ``whole``: it had one."""
        parts = [text[at : at + PART_BYTES] for at in range(0, len(text), PART_BYTES)] or [b""]
        for position, part in enumerate(parts):
            tag = b"F" if whole and position == len(parts) - 1 else b"P"
            self._written += self._file.write(b"%s %s %s\n" % (self._stamp(), tag, part))
        self._file.flush()
        if self._written > self.max_bytes:
            self.turn_over()
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._changes += 1
            self._news.notify_all()

    def _stamp(self) -> bytes:
        self._last_ns = max(self._last_ns, time.time_ns())
        second, nanoseconds = divmod(self._last_ns, 10**9)
        return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z".encode()

    def turn_over(self) -> None:
        self._file.close()
        self.turns += 1
        self.path.rename(self.path.with_suffix(f".{self.turns}"))
        self._file = self.path.open("ab")
        self._written = 0

    async def close(self) -> None:
        self.done = True
        self._file.close()
        await self._tell()

    async def read(self, *, follow: bool, timestamps: bool, since: bytes, deaf: bool = False) -> AsyncGenerator[bytes]:
        """Blocks as a client gets them. ``deaf``: a kubelet of old, which follows a file that was turned over."""
        file, new_line, rest = self.path.open("rb"), True, b""
        try:
            while True:
                done, seen = self.done, self._changes
                block = rest + file.read(_BLOCK_BYTES)
                *lines, rest = block.split(b"\n")
                out = bytearray()
                for line in lines:
                    moment, tag, text = line.split(b" ", 2)
                    if moment >= since:
                        out += (
                            (moment + b" " if timestamps and new_line else b"") + text + (b"\n" if tag == b"F" else b"")
                        )
                    new_line = tag == b"F"
                if out:
                    yield bytes(out)
                elif not lines:
                    if not follow or done:
                        return
                    if not deaf and os.fstat(file.fileno()).st_ino != self.path.stat().st_ino:
                        file.close()
                        file = self.path.open("rb")
                        continue
                    async with self._news:
                        await self._news.wait_for(lambda seen=seen: self._changes != seen)  # type: ignore[misc]
                await asyncio.sleep(0)
        finally:
            file.close()
