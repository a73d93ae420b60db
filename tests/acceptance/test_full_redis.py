"""A Redis that is full, or cannot take writes for another reason: nothing that was acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from fleet_stack import FleetStack, git, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.errors import StoreError
from swarmq.models.branch import BranchState
from swarmq.models.events import EventType

COUNTING = Plan(subtasks=(Subtask(name="Counting", instruction="Count ten steps"),))
TIMEOUT = 60.0
MODEL_CALLS = 10


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    with running_fleet(SWARMQ_REDIS_RETRY_SECONDS="2") as running:
        yield running


@pytest.fixture
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


def looking_behind(fleet: FleetStack) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(fleet.root / "valkey.sock"), password=fleet.password)


def test_a_full_redis_holds_a_swarm_up_and_no_more(fleet: FleetStack, client: Client) -> None:
    """It is full for longer than the lease and the retry window: the branch is taken over when there is memory."""
    repo = fleet.repository("full")
    handle = client.submit(COUNTING, repo=repo)
    next(event for event in handle.events() if event.type is EventType.BRANCH_TOOL_CALL)
    before = handle.transcript("counting")
    with looking_behind(fleet) as server:
        server.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match=r"is full \(maxmemory\): give it more memory"):
            client.submit(COUNTING, repo=repo)
        refused = fleet.run_cli("run", "--yes", "--detach", "anything", "--repo", str(repo))
        assert refused.returncode == 5, refused.stderr
        assert "redis-cli CONFIG SET maxmemory" in refused.stderr
        until(lambda: "is full (maxmemory)" in fleet.log("agents") or None, "the worker to give up")
        until(lambda: handle.branches()[0].lease_until < server.time()[0] or None, "the end of the lease")
        branch = handle.branches()[0]
        assert (branch.state, branch.outcome) == (BranchState.RUNNING, None)
        server.config_set("maxmemory", 0)
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert git(repo, "show", f"{result.branch}:steps.txt").split() == [str(n) for n in range(1, 10)]
    assert fleet.requests("Count ten steps") <= MODEL_CALLS + 1
    after = handle.transcript("counting")
    assert after[: len(before)] == before
    assert all(process.poll() is None for process in fleet.processes.values())


def test_workers_that_start_on_a_full_redis_work_when_it_has_room(fleet: FleetStack, client: Client) -> None:
    fleet.kill("agents")
    handle = client.submit(COUNTING, repo=fleet.repository("started"))
    with looking_behind(fleet) as server:
        until(lambda: server.llen("swarmq.agents") or None, "the message")
        server.config_set("maxmemory", 1)
        fleet.start_worker("agents")
        until(lambda: "Cannot connect" in fleet.log("agents") or None, "the worker to meet the full Redis")
        until(lambda: "Couldn't apply scheduled task" in fleet.log("beat") or None, "beat to meet it")
        server.config_set("maxmemory", 0)
    assert handle.result(TIMEOUT).success
    assert all(process.poll() is None for process in fleet.processes.values())
