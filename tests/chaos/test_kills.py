"""Processes that are killed, told to go, or stand still for too long."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import psutil
import pytest
from chaos_fleet import LEASE_SECONDS, PROCESSES, ChaosFleet, ChaosSwarm
from chaos_swarm import SLOW_TOOL_STEP
from fleet_stack import until
from verdict import BRANCH_MARK, LOST, RECOVERY_SECONDS, START_SECONDS, check, processes_of

Passed = Callable[..., None]
KILLED = [(name,) for name in ("agents-1", "control", "integrate", "beat")] + [tuple(PROCESSES)]
IN_STAGE_0, IN_STAGE_1 = 20, 100
"""Steps of the swarm."""


def names_of(names: tuple[str, ...]) -> str:
    return names[0].partition("-")[0] if len(names) == 1 else "all"


def in_tool_call(swarm: ChaosSwarm) -> list[psutil.Process]:
    """Wait until commands of agents run that take a while; their processes."""

    def sleepers() -> list[psutil.Process] | None:
        found = []
        for process in processes_of(swarm.handle.id):
            with contextlib.suppress(psutil.Error):
                if process.name() == "sleep":
                    found.append(process)
        return found or None

    return until(sleepers, "a tool call")


def branches_of(processes: list[psutil.Process]) -> set[str]:
    """Those that started these processes, as far as they still run."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add(process.environ()[BRANCH_MARK].partition("/")[2].rpartition("-")[0])
    return found


def in_model_call(swarm: ChaosSwarm) -> list[psutil.Process]:
    until(lambda: swarm.fleet.stack.server.in_flight or None, "a model call")
    return []


def test_undisturbed(fleet: ChaosFleet, passed: Passed) -> None:
    swarm = fleet.begin()
    passed(check(swarm, swarm.result(), faults=0))


@pytest.mark.parametrize("names", KILLED, ids=names_of)
def test_kill(fleet: ChaosFleet, passed: Passed, names: tuple[str, ...]) -> None:
    swarm = fleet.begin()
    swarm.until_steps(IN_STAGE_0)
    blow = swarm.blow(*names)
    fleet.kill(*names)
    blow.struck()
    fleet.start(*names)
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))


@pytest.mark.parametrize("name", ["agents-1", "control", "integrate", "beat"])
def test_sigterm(fleet: ChaosFleet, passed: Passed, name: str) -> None:
    """Once during tool calls, which end before their branches are handed over, and once during a model call."""
    swarm, met = fleet.begin(), set[str]()
    for steps, moment in ((IN_STAGE_0, in_tool_call), (IN_STAGE_1, in_model_call)):
        swarm.until_steps(steps)
        met |= branches_of(moment(swarm))
        blow = swarm.blow(name)
        fleet.stop(name)
        blow.struck()
        fleet.start(name)
        blow.recovered()
    passed(check(swarm, swarm.result(), faults=2, bound_seconds=RECOVERY_SECONDS + START_SECONDS))
    for branch in met:
        results = [found for entry in swarm.handle.transcript(branch) for found in entry.message.tool_results]
        assert LOST not in results[SLOW_TOOL_STEP - 1].content, f"{branch}: the command that ran was cut off"


def test_frozen_past_its_lease(fleet: ChaosFleet, passed: Passed) -> None:
    """The worker wakes up when others own its branches: it writes nothing more, and takes new ones."""
    swarm = fleet.begin()
    swarm.until_steps(IN_STAGE_0)
    blow = swarm.blow("agents-1")
    fleet.stack.processes["agents-1"].send_signal(signal.SIGSTOP)
    blow.struck().recovered()
    assert swarm.recoveries[0].seconds > LEASE_SECONDS / 2, "no branch was taken over"
    fleet.stack.processes["agents-1"].send_signal(signal.SIGCONT)
    passed(check(swarm, swarm.result(), faults=1))


def test_a_tools_child_is_killed(fleet: ChaosFleet, passed: Passed) -> None:
    """As the kernel does when memory runs out: the agent is told, and goes on."""
    swarm = fleet.begin()
    for process in in_tool_call(swarm):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    passed(check(swarm, swarm.result(), faults=1))


def test_frozen_in_its_pop_and_killed(fleet: ChaosFleet, passed: Passed) -> None:
    """The message has left the list and is in no key: Redis has sent it to a process that will never read it."""
    fleet.kill("agents-2")
    worker = fleet.stack.processes["agents-1"]

    def submitted_into_its_pop() -> ChaosSwarm | None:
        """A pop waits for a second at most: whether the message came in time is seen when it is over."""
        worker.send_signal(signal.SIGSTOP)
        swarm = fleet.begin()
        with contextlib.suppress(AssertionError):
            until(lambda: fleet.redis.llen("swarmq.agents") == 0 or None, "the message's departure", 1)
            return swarm
        worker.send_signal(signal.SIGCONT)
        swarm.handle.cancel()
        swarm.result()
        return None

    swarm = until(submitted_into_its_pop, "a worker in its pop")
    fleet.kill("agents-1")
    blow = swarm.blow(pids=()).struck()
    fleet.start("agents-1", "agents-2")
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))
