"""Running a task's coroutine, whatever the pool: AgentPool's loop, or one loop per prefork child."""

from __future__ import annotations

import asyncio
import os
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
    return _loops[pid].run_until_complete(coroutine)
