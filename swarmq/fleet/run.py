"""Running a task's coroutine, whatever the pool: AgentPool's loop, or one loop per prefork child."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from swarmq.fleet.pool import current_job

T = TypeVar("T")

_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end. Connections live as long as the loop, so a process keeps one loop for all its tasks."""
    job = current_job()
    if job is not None:
        return job.run(coroutine)
    pid = os.getpid()
    if pid not in _loops:  # keyed by pid: a forked child must not use its parent's loop
        _loops[pid] = asyncio.new_event_loop()
    if threading.current_thread() is not threading.main_thread():
        return _loops[pid].run_until_complete(coroutine)
    return _run_stoppable(_loops[pid], coroutine)


def _run_stoppable(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """A revoke ends a prefork child with SIGTERM: the coroutine is cancelled and cleans up, and then the child ends."""
    task = loop.create_task(coroutine)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        if not stopped:  # a second signal must not cut the clean-up short
            stopped = True
            loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return loop.run_until_complete(task)
    finally:
        signal.signal(signal.SIGTERM, before)
        if stopped:
            os.kill(os.getpid(), signal.SIGTERM)
