"""The doctor on a fleet that has lost something: what, since when, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis
from fleet_stack import FleetStack, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.models.events import EventType

COUNTING = Plan(subtasks=(Subtask(name="Counting", instruction="Count ten steps"),))


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    with running_fleet(SWARMQ_LEASE_SECOND="1") as running:
        yield running


def findings(fleet: FleetStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(fleet.run_cli("doctor", "--json").stdout)
    return found


def about(fleet: FleetStack, check: str) -> dict[str, Any] | None:
    """The finding of that name, where it is not "ok"."""
    return next((one for one in findings(fleet) if one["check"] == check and one["status"] != "ok"), None)


def test_what_is_lost_is_found_and_named(fleet: FleetStack) -> None:
    until(lambda: not about(fleet, "beat"), "a tick of beat")
    assert [one for one in findings(fleet) if one["status"] == "fail"] == []
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.submit(COUNTING, repo=fleet.repository("lost"))
        next(event for event in handle.events() if event.type is EventType.BRANCH_TOOL_CALL)
        fleet.kill("agents")
        fleet.kill("beat")
        lost = until(lambda: about(fleet, "branch"), "the end of the lease")
        assert (lost["swarm"], lost["branch"]) == (handle.id, "counting")
        assert lost["since"] == pytest.approx(handle.branches()[0].lease_until, abs=0.01)
        dead = until(lambda: about(fleet, "beat"), "the missing ticks")
        assert (dead["status"], dead["remedy"]) == ("fail", "swarmq beat")
        queue = until(lambda: about(fleet, "queue agents"), "the worker's record to expire")
        assert queue["remedy"] == "swarmq worker --queue agents"
        assert fleet.run_cli("doctor").returncode == 5
        fleet.start_worker("agents")
        fleet.start("beat", "beat")
        assert handle.result(60).success
    until(lambda: not about(fleet, "branch") and not about(fleet, "beat"), "the end of the trouble")


def test_a_misspelt_variable_and_a_redis_that_may_lose_records_are_told_at_the_start(fleet: FleetStack) -> None:
    with redis.Redis(unix_socket_path=str(fleet.root / "valkey.sock"), password=fleet.password) as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
    fleet.kill("integrate")
    fleet.start_worker("integrate")
    fleet.kill("beat")
    fleet.start("beat", "beat")
    for name in ("integrate", "beat"):
        until(lambda name=name: "maxmemory-policy is allkeys-lru" in fleet.log(name) or None, f"the warning of {name}")  # type: ignore[misc]
        assert "SWARMQ_LEASE_SECOND" in fleet.log(name)
    told = about(fleet, "variables")
    assert told is not None
    assert told["remedy"] == "export SWARMQ_LEASE_SECONDS=…"
    repo = fleet.repository("warned")
    (repo.parent / "plan.yaml").write_text("subtasks: [{name: Alpha, instruction: Write alpha}]\n")
    done = fleet.run_cli("run", "--yes", "--plan", str(repo.parent / "plan.yaml"), "--repo", str(repo))
    assert done.stderr.count("maxmemory-policy is allkeys-lru") == 1


def test_connections_that_redis_cuts_are_made_anew_at_once(fleet: FleetStack) -> None:
    """A subscription that redis-py repairs by itself would keep the worker's main thread waiting."""
    with (
        redis.Redis(unix_socket_path=str(fleet.root / "valkey.sock"), password=fleet.password) as server,
        Client(fleet.url, settings=fleet.settings()) as client,
    ):
        for number in range(3):
            for kind in ("pubsub", "normal"):
                server.client_kill_filter(_type=kind, skipme=True)
            result = client.submit(COUNTING, repo=fleet.repository(f"cut-{number}"), cache="bypass").result(20)
            assert result.success, result.report
