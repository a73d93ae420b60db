"""The output of a command: streamed, its head and tail kept in bounded memory, the whole in a file up to a cap."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.spawn import CHUNK_BYTES

FLUSH_BYTES = 1024 * 1024


class Capture:
    """Takes chunks of output. Nothing is written to ``spill`` while all of it fits into ``limit_bytes``."""

    def __init__(self, limit_bytes: int, spill: Path | None, cap_bytes: int, kept_bytes: int | None = None) -> None:
        """``cap_bytes``: what is read at most; ``kept_bytes``: of it, what goes into the file (default: all)."""
        self.total_bytes = 0
        self.spilled = False
        self.full = False
        """Set when there was more than the cap; what is beyond it is gone."""
        self.follow = False
        """Set when the output outlives its command: then all of it goes to the file, as it comes."""
        self._lock = asyncio.Lock()
        self.cap_bytes = cap_bytes
        self._limit, self._spill = limit_bytes, spill
        self._room = cap_bytes if kept_bytes is None else kept_bytes
        self._head, self._tail = bytearray(), bytearray()
        self._pending: list[bytes] = []  # seen, and not yet in the file
        self._pending_bytes = 0

    @property
    def truncated(self) -> bool:
        return self.total_bytes > self._limit

    async def drain(self, reader: asyncio.StreamReader) -> None:
        """Read to the end of the stream, or until the cap is reached: the writer then stands still, its pipe full."""
        while not self.full:
            chunk = await reader.read(CHUNK_BYTES)
            if not chunk:
                break
            room = self.cap_bytes - self.total_bytes
            self.full = len(chunk) > room
            self._take(chunk[:room])
            if self._pending_bytes >= (1 if self.follow else FLUSH_BYTES):
                await self.flush()

    def _take(self, chunk: bytes) -> None:
        self.total_bytes += len(chunk)
        half = self._limit // 2
        room = max(half - len(self._head), 0)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * self._limit:  # trimmed now and then only, so that small chunks stay cheap
            del self._tail[: len(self._tail) - self._limit]
        kept = chunk[: self._room]
        if self._spill is not None and kept:
            self._room -= len(kept)
            self._pending.append(kept)
            self._pending_bytes += len(kept)

    async def flush(self) -> None:
        """Bring the file up to date, if the output is one that needs it."""
        async with self._lock:
            if self._spill is None or not self._pending or not (self.truncated or self.follow):
                return
            chunks, self._pending, self._pending_bytes = self._pending, [], 0
            try:
                await run_blocking(_append, self._spill, chunks)
                self.spilled = True
            except OSError:  # a full disk costs the copy of the output, not the command
                self._spill, self.spilled = None, False

    def text(self) -> str:
        """Everything, or head and tail at line ends with a line between them that says how much is missing."""
        if not self.truncated:
            return (self._head + self._tail).decode("utf-8", "replace")
        half = self._limit // 2
        head, tail = bytes(self._head[:half]), bytes(self._tail[-half:])
        head = head[: head.rfind(b"\n") + 1] or head
        start = tail.find(b"\n") + 1
        tail = tail[start:] if 0 < start < len(tail) else tail
        left_out = self.total_bytes - len(head) - len(tail)
        gap = f"[... {left_out:,} bytes left out ...]\n"
        break_ = "" if head.endswith(b"\n") else "\n"
        return head.decode("utf-8", "replace") + break_ + gap + tail.decode("utf-8", "replace")


def _append(path: Path, chunks: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Private: a command may print what others on this machine must not read.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "ab") as file:
        for chunk in chunks:
            file.write(chunk)
