"""Shell commands of a branch: own session, no terminal, bounded output, and an end that reaches all children."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.capture import Capture
from swarmq.workspace.environment import COOKIE_VARIABLE, child_environment
from swarmq.workspace.processes import end_processes, find_processes
from swarmq.workspace.spawn import OutputPipe, spawn

__all__ = ["Shell", "ShellLimits", "ShellResult", "child_environment", "cookie_of", "kill_all"]

COMMAND_VARIABLE = "SWARMQ_COMMAND"
MAX_COMMAND_BYTES = 120_000
"""Linux takes 131,072 bytes for one argument."""

OUTPUT_LIMIT_BYTES = 30_000
GRACE_SECONDS = 2.0
LAST_OUTPUT_SECONDS = 0.1
TIMED_OUT = "time-out"


@dataclass(frozen=True)
class ShellLimits:
    """What one command may use up before it is ended."""

    grace_seconds: float = GRACE_SECONDS
    watch_seconds: float = 0.5
    spill_bytes: int = 100_000_000
    reserve_bytes: int = 1 << 30
    """Free space that a command must leave on the disk of its directory, or half of what it found if that is less."""
    processes: int = 1_000


@dataclass(frozen=True)
class ShellResult:
    """``exit_code`` is None where the command was ended by us; ``stopped`` then says why."""

    exit_code: int | None
    output: str
    timed_out: bool
    truncated: bool
    output_bytes: int
    seconds: float
    stopped: str | None = None
    spilled: bool = False
    background: bool = False
    """Something that the command started still holds its output; it is read on, into the spill file."""
    marker: str = ""
    """An environment entry that all processes of the command have."""


def cookie_of(swarm_id: str, branch_id: str) -> str:
    """Identifies a branch in the environment of its processes."""
    return f"{swarm_id}/{branch_id}"


async def kill_all(cookie: str, *, grace_seconds: float = GRACE_SECONDS) -> int:
    """End every process on this machine that the branch has started, whichever worker it was. Returns how many."""
    return await end_processes(f"{COOKIE_VARIABLE}={cookie}", grace_seconds=grace_seconds)


class Shell:
    """Runs commands in one directory. ``cookie`` marks all their processes as the branch's."""

    def __init__(self, cwd: Path, env: Mapping[str, str], cookie: str, limits: ShellLimits | None = None) -> None:
        # An agent that deletes its .git must not find a repository further up, such as the user's home.
        self._cwd, self._env, self._cookie = cwd, {"GIT_CEILING_DIRECTORIES": str(cwd.parent), **env}, cookie
        self._limits = limits or ShellLimits()
        self._program = shutil.which("bash", path=self._env.get("PATH")) or "/bin/sh"
        self._commands = itertools.count(1)
        self._pumps: set[asyncio.Task[None]] = set()
        self.used = False

    async def run(
        self,
        command: str,
        *,
        timeout_seconds: float,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        spill: Path | None = None,
        kept_bytes: int | None = None,
        printed_bytes: int | None = None,
    ) -> ShellResult:
        """Run to the end, the time-out, or a limit. Cancelling ends the command's processes first, then raises.

        Raises ToolError for a command that no shell can be started with. Output beyond the limit goes to ``spill``, up
        to ``kept_bytes`` of it; a command that prints more than ``printed_bytes`` is ended. Both are ``spill_bytes`` of
        the limits by default.
        """
        started = time.monotonic()
        capture = Capture(output_limit_bytes, spill, printed_bytes or self._limits.spill_bytes, kept_bytes)
        running = await self._start(command, capture)
        try:
            stopped = await self._wait(running, timeout_seconds)
        except BaseException:
            await _uninterrupted(self._end(running))
            raise
        if stopped is not None:
            await _uninterrupted(self._end(running))
        else:
            await asyncio.wait({running.pump}, timeout=LAST_OUTPUT_SECONDS)
        background = not running.pump.done()
        capture.follow = background
        await capture.flush()
        return ShellResult(
            exit_code=running.process.returncode if stopped is None else None,
            output=capture.text(),
            timed_out=stopped is TIMED_OUT,
            truncated=capture.truncated,
            output_bytes=capture.total_bytes,
            seconds=time.monotonic() - started,
            stopped=stopped,
            spilled=capture.spilled,
            background=background,
            marker=running.marker,
        )

    async def end_left(self, results: Iterable[ShellResult]) -> None:
        """End what these commands have left running, and nothing else of the branch."""
        for result in results:
            await _uninterrupted(end_processes(result.marker, grace_seconds=self._limits.grace_seconds))

    async def aclose(self) -> None:
        """End everything that the branch has started here; nothing if no command was run. Repeatable."""
        if not self.used:
            return
        await _uninterrupted(kill_all(self._cookie, grace_seconds=self._limits.grace_seconds))
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _start(self, command: str, capture: Capture) -> _Running:
        _check(command)
        self.used = True
        command_id = f"{self._cookie}#{os.getpid()}.{next(self._commands)}"
        environment = {**self._env, COOKIE_VARIABLE: self._cookie, COMMAND_VARIABLE: command_id}
        arguments, pipe = (self._program, "-c", command), OutputPipe()
        try:
            process = await spawn(
                arguments, cwd=self._cwd, env=environment, stdout=pipe.write_end, stderr=asyncio.subprocess.STDOUT
            )
        except BaseException as error:
            pipe.close()
            if isinstance(error, OSError):
                raise ToolError(f"the command cannot be started: {error.strerror}: {error.filename}") from None
            raise
        pipe.close_writer()
        marker = f"{COMMAND_VARIABLE}={command_id}"
        pump = asyncio.create_task(self._pump(pipe, capture, marker))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        return _Running(process, marker, capture, pump)

    async def _pump(self, pipe: OutputPipe, capture: Capture, marker: str) -> None:
        """Read the output for as long as anything holds it: closing it would break a server started with ``&``."""
        try:
            await capture.drain(await pipe.reader())
            if capture.full and capture.follow:
                await end_processes(marker, grace_seconds=self._limits.grace_seconds)
        finally:
            pipe.close()

    async def _wait(self, running: _Running, timeout_seconds: float) -> str | None:
        """None when the shell has ended by itself, else why it has to be ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        exited = asyncio.create_task(running.process.wait())
        watch = asyncio.create_task(self._watch(running))
        waiting: set[asyncio.Task[Any]] = {exited, watch, running.pump}
        try:
            while True:
                left_seconds = max(deadline - loop.time(), 0)
                done, _ = await asyncio.wait(waiting, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED)
                if exited in done:
                    return None
                if watch in done:
                    return watch.result()
                if not done:
                    return TIMED_OUT
                if running.capture.full:
                    return f"it printed more than {running.capture.cap_bytes:,} bytes"
                waiting.discard(running.pump)  # it closed its output and works on
        finally:
            exited.cancel()
            watch.cancel()
            await asyncio.gather(exited, watch, return_exceptions=True)

    async def _watch(self, running: _Running) -> str:
        """Returns when the command uses up what others need: the disk, or the machine's processes."""
        limits = self._limits
        free_before, tasks_before = _free_bytes(self._cwd), _task_count()
        reserve = min(limits.reserve_bytes, (free_before or 0) // 2)
        while True:
            await asyncio.sleep(limits.watch_seconds)
            free = _free_bytes(self._cwd)
            if free is not None and free < reserve:
                return f"the disk is nearly full, {free:,} bytes are left; remove what is not needed first"
            if _task_count() - tasks_before > limits.processes:  # the machine's total is cheap, a look at each is not
                found = await run_blocking(find_processes, running.marker, running.process.pid)
                if len(found) > limits.processes:
                    return f"it had started {len(found):,} processes, {limits.processes:,} is the limit"

    async def _end(self, running: _Running) -> None:
        """TERM, grace, KILL for the group, its session and all that carry the command's mark or descend from it."""
        process = running.process
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)  # at once, before any thread is free to look for the rest
        await end_processes(running.marker, leader=process.pid, grace_seconds=self._limits.grace_seconds)
        await process.wait()
        await asyncio.wait({running.pump}, timeout=LAST_OUTPUT_SECONDS)
        running.pump.cancel()
        await asyncio.gather(running.pump, return_exceptions=True)


@dataclass(frozen=True)
class _Running:
    process: asyncio.subprocess.Process
    marker: str
    capture: Capture
    pump: asyncio.Task[None]


def _check(command: str) -> None:
    try:
        size_bytes = len(command.encode())
    except UnicodeEncodeError:
        raise ToolError("the command is not valid Unicode") from None
    if "\0" in command:
        raise ToolError("the command has a NUL character")
    if size_bytes > MAX_COMMAND_BYTES:
        raise ToolError(
            f"the command has {size_bytes:,} bytes, the system takes {MAX_COMMAND_BYTES:,}; write a script and run that"
        )


def _free_bytes(directory: Path) -> int | None:
    try:
        status = os.statvfs(directory)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _task_count() -> int:
    """Threads and processes of the whole machine; 0 where the system does not tell."""
    try:
        with open("/proc/loadavg") as file:
            return int(file.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0


async def _uninterrupted(work: Coroutine[Any, Any, object]) -> None:
    """Do the work to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
