"""Workers that die or are told to go: the swarm ends all the same, and no model call is paid for twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import psutil
import pytest
from fleet_stack import FleetStack, git, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.fleet.dispatch import branch_task_id
from swarmq.models.events import EventType
from swarmq.models.swarm import SubtaskStatus

COUNTING = Plan(subtasks=(Subtask(name="Counting", instruction="Count ten steps"),))
SHELL = Plan(subtasks=(Subtask(name="Sleeper", instruction="Sleep in the shell"),))
WAITING = Plan(subtasks=(Subtask(name="Waiting", instruction="Wait for two words"),))
TIMEOUT = 60.0
MODEL_CALLS = 10
SLOW_STEP = 4


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    """A fleet for each test: they kill it."""
    with running_fleet() as running:
        yield running


@pytest.fixture
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


def in_slow_step(client: Client, swarm_id: str) -> None:
    """Wait until the branch is in the model call of its fourth step."""
    seen = 0
    for event in client.get(swarm_id).events():
        seen += event.type is EventType.BRANCH_TOOL_CALL
        if seen == SLOW_STEP - 1:
            return


def test_a_killed_agents_worker_costs_one_model_call(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("killed")
    handle = client.submit(COUNTING, repo=repo)
    in_slow_step(client, handle.id)
    fleet.kill("agents")
    fleet.start_worker("agents")
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert git(repo, "show", f"{result.branch}:steps.txt").split() == [str(n) for n in range(1, 10)]
    assert fleet.requests("Count ten steps") <= MODEL_CALLS + 1
    assert result.stats.lost_leases == 1
    branch = handle.branches()[0]
    assert (branch.token, branch.deliveries) == (2, 1)


def test_a_worker_told_to_stop_hands_its_branch_over(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("handed")
    handle = client.submit(COUNTING, repo=repo)
    in_slow_step(client, handle.id)
    started = time.monotonic()
    assert fleet.kill("agents", signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    branch = handle.branches()[0]
    assert branch.state == "queued", fleet.log("agents")[-2000:]
    fleet.start_worker("agents")
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert git(repo, "show", f"{result.branch}:steps.txt").split() == [str(n) for n in range(1, 10)]
    assert fleet.requests("Count ten steps") <= MODEL_CALLS + 1
    assert handle.branches()[0].deliveries == 0
    assert result.stats.lost_leases == 0


def test_a_worker_told_to_stop_lets_a_tool_call_end_unless_it_is_told_again(
    fleet: FleetStack, client: Client, tmp_path: Path
) -> None:
    repo = fleet.repository("waiting")
    handle = client.submit(WAITING, repo=repo, env={"WORDS": str(tmp_path)})

    def told_to_stop(number: int) -> Popen[bytes]:
        """The worker, which waits for the end of that command."""
        until(lambda: (tmp_path / f"began-{number}").exists() or None, f"command {number}")
        fleet.processes["agents"].terminate()
        until(lambda: fleet.log("agents").count("when its step has ended") == number or None, "the wait for its end")
        return fleet.processes.pop("agents")

    worker = told_to_stop(1)
    (tmp_path / "first").touch()
    assert worker.wait(TIMEOUT) == 0
    assert handle.branches()[0].state == "queued", fleet.log("agents")[-2000:]
    fleet.start_worker("agents")
    worker = told_to_stop(2)
    worker.terminate()
    assert worker.wait(TIMEOUT) == 0
    assert handle.branches()[0].state == "queued", fleet.log("agents")[-2000:]
    fleet.start_worker("agents")
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert git(repo, "show", f"{result.branch}:words.txt") == "first\n"
    results = [found.is_error for entry in handle.transcript("waiting") for found in entry.message.tool_results]
    assert results == [False, True]
    assert fleet.requests("Wait for two words") == len(results) + 1
    assert (handle.branches()[0].deliveries, result.stats.lost_leases) == (0, 0)


@pytest.mark.parametrize("name", ["control", "integrate", "beat"])
def test_any_other_process_may_die(fleet: FleetStack, client: Client, name: str) -> None:
    repo = fleet.repository("others")
    plan = Plan(
        subtasks=(*COUNTING.subtasks, Subtask(name="Beta", instruction="Write beta", dependencies=("Counting",)))
    )
    handle = client.submit(plan, repo=repo)
    in_slow_step(client, handle.id)
    fleet.kill(name)
    if name == "beat":
        fleet.start("beat", "beat")
    else:
        fleet.start_worker(name)
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert fleet.requests("Count ten steps") == MODEL_CALLS


def test_redis_may_go_and_come_back(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("outage")
    plan = Plan(
        subtasks=(*COUNTING.subtasks, Subtask(name="Beta", instruction="Write beta", dependencies=("Counting",)))
    )
    handle = client.submit(plan, repo=repo)
    in_slow_step(client, handle.id)
    fleet.kill_valkey()
    fleet.start_valkey()
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert git(repo, "show", f"{result.branch}:steps.txt").split() == [str(n) for n in range(1, 10)]
    assert fleet.requests("Count ten steps") <= MODEL_CALLS + 1


def test_a_worker_told_to_stop_ends_though_redis_is_frozen() -> None:
    with running_fleet(
        SWARMQ_HANDOVER_SECONDS="2", SWARMQ_SHUTDOWN_SECONDS="1", SWARMQ_REDIS_RETRY_SECONDS="6"
    ) as fleet:
        with Client(fleet.url, settings=fleet.settings()) as client:
            in_slow_step(client, client.submit(COUNTING, repo=fleet.repository("frozen")).id)
        fleet.valkey.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        try:
            for process in fleet.processes.values():
                process.terminate()
            codes = {name: process.wait(TIMEOUT) for name, process in fleet.processes.items()}
        finally:
            fleet.valkey.send_signal(signal.SIGCONT)
        fleet.processes.clear()
        assert codes == {"beat": 0, **dict.fromkeys(("control", "integrate", "agents"), os.EX_TEMPFAIL)}
        assert time.monotonic() - started < TIMEOUT, "it does not wait for Redis"


def sleepers(swarm_id: str) -> set[int]:
    """The processes that the branch's command has started, by their mark."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0] == "sleep":
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SWARMQ_BRANCH", "").startswith(f"{swarm_id}/sleeper"):
                    found.add(process.pid)
    return found


def test_terminate_from_flower_ends_the_agent_and_its_processes(fleet: FleetStack, client: Client) -> None:
    handle = client.submit(SHELL, repo=fleet.repository("terminated"), cache="bypass")
    until(lambda: len(sleepers(handle.id)) == 3 or None, "the shell's children")
    client._inner.dispatch.app.control.revoke(branch_task_id(handle.id, "sleeper"), terminate=True)
    result = handle.result(TIMEOUT)
    until(lambda: not sleepers(handle.id) or None, "the end of the shell's children", 5)
    assert result.subtasks[0].status is SubtaskStatus.CANCELLED
    assert result.state == "failed"


def test_a_killed_workers_shells_are_ended_by_the_next_holder(fleet: FleetStack, client: Client) -> None:
    handle = client.submit(SHELL, repo=fleet.repository("orphans"), cache="bypass")
    until(lambda: len(sleepers(handle.id)) == 3 or None, "the shell's children")
    before = sleepers(handle.id)
    fleet.kill("agents")
    fleet.start_worker("agents")
    next(event for event in handle.events() if event.type is EventType.BRANCH_RESUMED)
    until(lambda: not before & sleepers(handle.id) or None, "the end of the orphans", 10)
    handle.cancel()
    handle.result(TIMEOUT)
