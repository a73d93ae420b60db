"""What runs, as a file: for ``status``, and for ending what a killed supervisor left behind.

A process is known by its pid and its time of creation; a pid alone may have been given to a stranger since.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from swarmq.devstack.layout import write_private

SAME_PROCESS_SECONDS = 2.5
"""psutil derives the time of creation from the boot time in whole seconds, which moves when the clock is adjusted."""
KILL_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class ProcessRecord:
    """A process of the stack. ``created_at`` is the kernel's time of its creation, in Unix seconds."""

    name: str
    pid: int
    created_at: float
    log: str
    restarts: int = 0


@dataclass(frozen=True)
class StackRecord:
    """The stack as its supervisor last wrote it. ``state``: starting, running, stopping, stopped or failed."""

    state: str
    runtime_dir: str
    reason: str = ""
    started_at: float = field(default_factory=time.time)
    supervisor: ProcessRecord | None = None
    guard: ProcessRecord | None = None
    processes: tuple[ProcessRecord, ...] = ()

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=1))


def read_record(path: Path) -> StackRecord | None:
    """The record; None where there is none, or one that this version does not understand."""
    try:
        found = json.loads(path.read_text())
        processes = tuple(ProcessRecord(**item) for item in found.pop("processes"))
        for name in ("supervisor", "guard"):
            found[name] = ProcessRecord(**found[name]) if found[name] else None
        return StackRecord(**found, processes=processes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def describe(name: str, pid: int, log: Path, restarts: int = 0) -> ProcessRecord | None:
    """The record of a process that was just started; None when it has ended already."""
    try:
        return ProcessRecord(name, pid, psutil.Process(pid).create_time(), str(log), restarts)
    except psutil.NoSuchProcess:
        return None


def find(record: ProcessRecord | None) -> psutil.Process | None:
    """The living process of that record; None when it is gone, a zombie, or its pid is a stranger's."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.created_at) < SAME_PROCESS_SECONDS
    except psutil.Error:
        return None
    return process if same and not _is_gone(process) else None


def end_all(records: Iterable[ProcessRecord], grace_seconds: float) -> None:
    """End the workers with all that descends from them, then Valkey: they hand their branches over through it."""
    records = list(records)
    workers = [record for record in records if record.name != "valkey"]
    end(workers, grace_seconds)
    end([record for record in records if record.name == "valkey"], grace_seconds)


def end(records: Iterable[ProcessRecord], grace_seconds: float) -> None:
    """SIGTERM, ``grace_seconds``, then SIGKILL to what is left of these processes and of their descendants."""
    processes = [process for record in records if (process := find(record))]
    families = {child for process in processes for child in _descendants(process)}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    left = _wait(processes, grace_seconds)
    families.update(child for process in left for child in _descendants(process))
    kill([*left, *families])


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL; psutil checks the time of creation again before it signals a pid."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _wait(processes, KILL_WAIT_SECONDS)


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after that time. Not psutil.wait_procs: for it an orphan's zombie runs until init reaps."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if not _is_gone(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
