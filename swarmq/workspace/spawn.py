"""Starting child processes, one at a time per event loop, and reading what they print."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

CHUNK_BYTES = 256 * 1024

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class OutputPipe:
    """A pipe of our own: in some versions of asyncio, waiting for a process also waits for all who hold its pipes."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._transport: asyncio.ReadTransport | None = None

    async def reader(self) -> asyncio.StreamReader:
        """Call once; the stream ends when the last process that holds the write end closes it."""
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        file, self._read_end = os.fdopen(self._read_end, "rb", 0), -1
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        return reader

    def close_writer(self) -> None:
        """To be called once the child has its copy, or cannot be started."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        self.close_writer()
        if self._transport is not None:
            self._transport.close()
        if self._read_end >= 0:
            os.close(self._read_end)
            self._read_end = -1


async def spawn(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: int,
    stderr: int,
    stdin: int | None = None,
) -> asyncio.subprocess.Process:
    """A child in a session of its own, without terminal, nor input but for ``stdin``. OSError if it cannot start.

    Starting one holds the loop for 2 ms. A hundred agents that start theirs in the same moment would hold it for
    200 ms, so each waits for its turn and other work runs in between.
    """
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with turn:
        return await asyncio.create_subprocess_exec(
            *arguments,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
