"""Finding and ending all processes that a branch started, also those that left their parent or their session.

A process belongs to a marker (an environment entry such as ``SWARMQ_BRANCH=<swarm>/<branch>``) if its environment
carries the entry, if it shares a session with such a process, or if it descends from one. What clears its environment,
starts a session of its own and loses its parent escapes this; only a container holds such a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import structlog

from swarmq.workspace.blocking import run_blocking

log = structlog.get_logger()

KILL_ROUNDS = 100
"""What forks faster than one round kills is met by the next; what survives all of them hangs in the kernel."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05


@dataclass(frozen=True)
class _Seen:
    pid: int
    parent: int
    session: int
    marked: bool


def find_processes(marker: str, leader: int | None = None) -> list[psutil.Process]:
    """All living processes of the marker, and of the session that ``leader`` leads. Blocking: reads all of /proc."""
    seen = {process.pid: process for process in (_linux(marker) if sys.platform == "linux" else _portable(marker))}
    children, sessions = defaultdict(list), defaultdict(list)
    for one in seen.values():
        children[one.parent].append(one.pid)
        sessions[one.session].append(one.pid)
    waiting = [one.pid for one in seen.values() if one.marked]
    if leader is not None:
        waiting += [leader, *sessions[leader]]
    own = _own_pids(seen)
    found: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid in found or pid in own:
            continue
        found.add(pid)
        waiting += children[pid]
        if pid in seen and seen[pid].session not in (0, os.getsid(0)):
            waiting += sessions[seen[pid].session]
    return [process for pid in sorted(found & seen.keys()) if (process := _open(pid)) is not None]


def _own_pids(seen: dict[int, _Seen]) -> set[int]:
    """This process and its ancestors: a worker that was itself started by a branch's shell must not end itself."""
    own, pid = set(), os.getpid()
    while pid > 0 and pid not in own:
        own.add(pid)
        pid = seen[pid].parent if pid in seen else 0
    return own


def _linux(marker: str) -> Iterator[_Seen]:
    """Read directly: psutil needs ten times the time, and this runs while agents are being stopped."""
    entry = marker.encode()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                # The command's name stands in brackets and may hold anything, brackets and spaces too.
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] in (b"Z", b"X"):
            continue
        environment = b""
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            environment = file.read()
        yield _Seen(int(name), int(fields[1]), int(fields[3]), entry in environment.split(b"\0"))


def _portable(marker: str) -> Iterator[_Seen]:
    name, _, value = marker.partition("=")
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            parent, session = process.ppid(), os.getsid(process.pid)
        except (psutil.Error, OSError):
            continue
        marked = False
        with contextlib.suppress(psutil.Error, OSError):
            marked = process.environ().get(name) == value
        yield _Seen(process.pid, parent, session, marked)


def _open(pid: int) -> psutil.Process | None:
    """Pins the process by its start time, so that a later signal cannot hit another one with the same number."""
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


async def end_processes(marker: str, *, leader: int | None = None, grace_seconds: float) -> int:
    """TERM, wait at most the grace time, then KILL until none is left. Returns how many there were.

    Safe to repeat, and safe to call for processes that another, lost worker of this machine has left behind.
    """
    found = await run_blocking(find_processes, marker, leader)
    for process in found:
        _signal(process, signal.SIGTERM)
    await _wait_gone(found, grace_seconds)
    for _ in range(KILL_ROUNDS):
        left = await run_blocking(find_processes, marker, leader)
        if not left:
            return len(found)
        for process in left:
            _signal(process, signal.SIGSTOP)  # first all stand still, so that none forks while the others are killed
        for process in left:
            _signal(process, signal.SIGKILL)
        await _wait_gone(left, _LONGEST_PAUSE_SECONDS)
    log.warning("processes could not be ended", marker=marker)
    return len(found)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        process.send_signal(number)


async def _wait_gone(processes: list[psutil.Process], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, _FIRST_PAUSE_SECONDS
    while any(_alive(process) for process in processes) and loop.time() < deadline:
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
