"""Running a program of ours over untrusted input: bounded in time and output, a few at once, killed when cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from swarmq.workspace.environment import child_environment
from swarmq.workspace.spawn import CHUNK_BYTES, OutputPipe, spawn

AT_ONCE = 4
"""Programs that run at the same time in one event loop; they compete with the agents for few cores."""
ERROR_BYTES = 10_000

_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True)
class ProgramResult:
    """``exit_code`` is None where the program was killed: its time was up, or its output had more than the limit."""

    exit_code: int | None
    output: bytes
    errors: bytes
    timed_out: bool


async def run_program(
    arguments: Sequence[str], *, cwd: Path, timeout_seconds: float, limit_bytes: int, stdin: int | None = None
) -> ProgramResult:
    """Run to the end, the time-out, or the limit of output; what was printed until then is kept.

    The program gets the clean environment of agents' shells, and reads the open file ``stdin`` if there is one.
    Raises OSError where it cannot be started.
    """
    slots = _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    async with slots:
        out, err = OutputPipe(), OutputPipe()
        try:
            process = await spawn(
                arguments,
                cwd=cwd,
                env=child_environment(),
                stdout=out.write_end,
                stderr=err.write_end,
                stdin=stdin,
            )
            out.close_writer()
            err.close_writer()
            return await _finish(process, out, err, timeout_seconds, limit_bytes)
        finally:
            out.close()
            err.close()


async def _finish(
    process: asyncio.subprocess.Process, out: OutputPipe, err: OutputPipe, timeout_seconds: float, limit_bytes: int
) -> ProgramResult:
    output, errors = bytearray(), bytearray()
    reading = asyncio.create_task(_read(out, output, limit_bytes + 1))
    listening = asyncio.create_task(_read(err, errors, ERROR_BYTES))
    try:
        await asyncio.wait({reading}, timeout=timeout_seconds)
        timed_out = not reading.done()
        killed = timed_out or len(output) > limit_bytes
        if not killed:
            await process.wait()
            await listening
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        reading.cancel()
        listening.cancel()
        await asyncio.gather(reading, listening, return_exceptions=True)
        await process.wait()
    return ProgramResult(None if killed else process.returncode, bytes(output[:limit_bytes]), bytes(errors), timed_out)


async def _read(pipe: OutputPipe, into: bytearray, limit_bytes: int) -> None:
    reader = await pipe.reader()
    while len(into) < limit_bytes:
        chunk = await reader.read(min(CHUNK_BYTES, limit_bytes - len(into)))
        if not chunk:
            return
        into += chunk
