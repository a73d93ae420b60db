"""Agents in a pool of processes: a child that is killed, all of them, and a worker that is told to go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest
from chaos_fleet import ChaosFleet
from verdict import RECOVERY_SECONDS, START_SECONDS, check

Passed = Callable[..., None]
NAME, WIDTH = "prefork", 6


def start(fleet: ChaosFleet) -> None:
    arguments = ("worker", "--queue", "agents", "--pool", "prefork", "--concurrency", str(WIDTH))
    fleet.stack.start(NAME, *arguments)


@pytest.fixture
def prefork(fleet: ChaosFleet) -> Iterator[ChaosFleet]:
    """All agents are with one worker, and each in a process of its own."""
    fleet.kill("agents-1", "agents-2")
    start(fleet)
    fleet.stack.await_worker(NAME)
    yield fleet
    process = fleet.stack.processes.pop(NAME)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def child_killed(fleet: ChaosFleet) -> None:
    """As the kernel does when memory runs out. Celery takes its message for done; the lease says what is true."""
    psutil.Process(fleet.pid(NAME)).children()[0].kill()


def all_killed(fleet: ChaosFleet) -> None:
    process = fleet.stack.processes[NAME]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    start(fleet)


def sigterm(fleet: ChaosFleet) -> None:
    fleet.stop(NAME)
    start(fleet)


@pytest.mark.parametrize("fault", [child_killed, all_killed, sigterm], ids=lambda fault: fault.__name__)
def test_prefork(prefork: ChaosFleet, passed: Passed, fault: Callable[[ChaosFleet], None]) -> None:
    swarm = prefork.begin()
    swarm.until_steps(20)
    blow = swarm.blow(NAME)
    fault(prefork)
    blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))
