"""A branch that loses is stopped for real: call aborted, processes gone, and records that say why."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest
from fleet_stack import FleetStack, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.models.branch import BranchState, Exit
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE
from swarmq.models.events import EventType
from swarmq.models.swarm import SubtaskStatus

TIMEOUT = 60.0
SLEEP = ["sleep", "65.5"]
PLAN = Plan(
    subtasks=(Subtask(name="Broken", instruction="Leave it broken"), Subtask(name="Good", instruction="Do it well"))
)
POLICY = {"max_consecutive_compile_failures": 1}


@pytest.fixture(params=["agents", "prefork"])
def fleet(request: pytest.FixtureRequest) -> Iterator[FleetStack]:
    """Both pools, one after the other."""
    with running_fleet(start=False) as running:
        for queue in ("control", "integrate"):
            running.start_worker(queue)
        running.start("agents", "worker", "--queue", "agents", "--pool", request.param, "--concurrency", "3")
        running.start("beat", "beat")
        for queue in ("control", "integrate", "agents"):
            running.await_worker(queue)
        yield running


def sleepers() -> int:
    return sum(process.info["cmdline"] == SLEEP for process in psutil.process_iter(["cmdline"]))


def test_a_branch_that_loses_is_stopped_and_leaves_nothing_behind(fleet: FleetStack) -> None:
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.submit(PLAN, repo=fleet.repository("lost"), collapse="stage", collapse_policy=POLICY)
        events = handle.events()
        killed = until(lambda: next((e for e in events if e.type is EventType.BRANCH_KILLED), None), "the kill")
        assert killed.branch == "broken"
        finished = until(lambda: next((e for e in events if e.type is EventType.BRANCH_FINISHED), None), "its end")
        assert (finished.branch, finished.data["exit"]) == ("broken", Exit.CANCELLED)
        until(lambda: sleepers() == 0 or None, "its processes' end")
        result = handle.result(TIMEOUT)
        broken, good = result.subtasks
        why = (
            f"{CANCELLED_BY_COLLAPSE}its files failed their checks 1 times in a row: broken.py: line 1: invalid syntax"
        )
        assert (broken.status, broken.error) == (SubtaskStatus.CANCELLED, why)
        assert good.success
        records = {branch.spec.id: branch for branch in handle.branches()}
        assert records["broken"].state is BranchState.DONE
        assert records["broken"].outcome is not None
        assert records["broken"].outcome.steps == 2
        observed = records["good"].observation
        assert observed is not None
        assert (observed.files, observed.checks, observed.changed_lines) == (("good.py",), True, 2)
        scores = handle.scores()
        assert [one.decision for entry in scores for one in entry.evaluations if one.reason] == ["killed"]
        shown = fleet.run_cli("collapse", "explain", handle.id)
        assert why.removeprefix(CANCELLED_BY_COLLAPSE) in shown.stdout
        explained = json.loads(fleet.run_cli("collapse", "explain", handle.id, "good", "--json").stdout)
        assert {one["branch_id"] for entry in explained for one in entry["evaluations"]} == {"good"}
    until(lambda: fleet.server.stats().in_flight == 0 or None, "the aborted call")
