"""What a client may know of the stack."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from swarmq.devstack.layout import Layout
from swarmq.devstack.record import ProcessRecord, find, read_record


@dataclass(frozen=True)
class StackInfo:
    """Where the stack answers. ``url_file`` holds ``redis_url`` for processes that should not get it by variable.

    ``changed``: the names of the variables that this client brought, for which the running workers were restarted.
    """

    redis_url: str = field(repr=False)
    url_file: Path | None
    runtime_dir: Path
    started: bool
    changed: tuple[str, ...] = ()

    @property
    def notice(self) -> str | None:
        """What to tell the user where this client's variables made new workers of the running ones."""
        return f"workers restarted: {', '.join(self.changed)} changed" if self.changed else None


@dataclass(frozen=True)
class ProcessStatus:
    """One process. ``ready``: a worker's heartbeat file is there; always False for what writes none."""

    name: str
    pid: int
    uptime_seconds: float
    rss_bytes: int
    restarts: int
    ready: bool
    log: Path


@dataclass(frozen=True)
class StackStatus:
    """``state``: running, starting, stopping, stopped or failed. ``reason`` says why it stopped or failed."""

    state: str
    reason: str
    uptime_seconds: float
    processes: tuple[ProcessStatus, ...]
    socket: Path
    state_dir: Path
    runtime_dir: Path
    log_dir: Path

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def rss_bytes(self) -> int:
        """Of all processes together; shared pages count in each."""
        return sum(process.rss_bytes for process in self.processes)


def look(layout: Layout) -> StackStatus:
    """The recorded stack, checked against the process table."""
    record = read_record(layout.record)
    if record is None:
        return _status(layout, "stopped", "", 0.0, ())
    layout = Layout(layout.state_dir, Path(record.runtime_dir))
    ready_pids = _ready_pids(layout)
    heads = [head for head in (record.supervisor, record.guard) if head is not None]
    alive = [status for item in (*heads, *record.processes) if (status := _process(item, ready_pids))]
    state, reason = record.state, record.reason
    if state in ("starting", "running", "stopping") and find(record.supervisor) is None:
        state, reason = "failed", reason or "the supervisor was killed"
    uptime_seconds = time.time() - record.started_at if state == "running" else 0.0
    return _status(layout, state, reason, uptime_seconds, tuple(alive))


def _status(
    layout: Layout, state: str, reason: str, uptime_seconds: float, processes: tuple[ProcessStatus, ...]
) -> StackStatus:
    return StackStatus(
        state=state,
        reason=reason,
        uptime_seconds=uptime_seconds,
        processes=processes,
        socket=layout.socket,
        state_dir=layout.state_dir,
        runtime_dir=layout.runtime_dir,
        log_dir=layout.log_dir,
    )


def _process(record: ProcessRecord, ready_pids: set[int]) -> ProcessStatus | None:
    process = find(record)
    if process is None:
        return None
    try:
        return ProcessStatus(
            name=record.name,
            pid=record.pid,
            uptime_seconds=max(0.0, time.time() - record.created_at),
            rss_bytes=process.memory_info().rss,
            restarts=record.restarts,
            ready=record.pid in ready_pids,
            log=Path(record.log),
        )
    except psutil.Error:
        return None


def _ready_pids(layout: Layout) -> set[int]:
    """The processes that write heartbeats; a file that is being written this moment counts at the next look."""
    pids = set()
    for path in layout.workers_dir.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            pids.add(int(json.loads(path.read_bytes())["pid"]))
    return pids
