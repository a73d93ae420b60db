"""Pausing, budgets and fair sharing on a real fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_stack import FleetStack, git, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.errors import OptionError
from swarmq.models.branch import BranchState, Exit
from swarmq.models.events import EventType
from swarmq.models.swarm import SwarmState

TIMEOUT = 60.0
STEPS = 4
TOKENS_PER_CALL = 1_100
PRICES = {"*": {"input_usd_per_mtok": 10, "output_usd_per_mtok": 100}}
USD_PER_CALL = 0.02


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    """A fleet for each test, whose agents worker takes three branches at once and knows what a call costs."""
    with running_fleet(start=False) as running:
        running.variables |= {
            "SWARMQ_ENDPOINTS__TEST__PRICES": json.dumps(PRICES),
            "SWARMQ_AGENTS_CONCURRENCY": "3",
        }
        running.start_all()
        yield running


@pytest.fixture
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


def timekeepers(count: int, name: str = "keeper") -> Plan:
    return Plan(subtasks=tuple(Subtask(name=f"{name} {n}", instruction=f"Take your time {n}") for n in range(count)))


def test_a_pause_outlives_the_workers_and_costs_nothing(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("paused")
    plan = Plan(
        subtasks=(
            *timekeepers(2).subtasks,
            Subtask(name="Alpha", instruction="Write alpha", dependencies=("keeper 0", "keeper 1")),
        )
    )
    handle = client.submit(plan, repo=repo, cache="bypass", subagent_timeout_seconds=30)
    events = handle.events()
    until(lambda: next(events).type is EventType.BRANCH_TOOL_CALL or None, "a first step")
    assert handle.pause("lunch")
    until(lambda: all(branch.state is BranchState.QUEUED for branch in handle.branches()) or None, "parked branches")
    assert "is paused" in fleet.run_cli("pause", handle.id).stdout  # twice is once
    assert fleet.run_cli("ls").stdout.splitlines()[1].split()[1] == "paused"
    calls = fleet.requests("Take your time")
    fleet.kill("agents")
    fleet.kill("control")
    fleet.start_worker("agents")
    fleet.start_worker("control")
    # Looks of reconcile, each of which would send again what stands still in a swarm that is not paused.
    seen = len(fleet.log("beat"))
    until(lambda: fleet.log("beat").count("due task reconcile", seen) >= 5 or None, "beat's ticks")
    assert fleet.requests("Take your time") == calls
    assert {branch.state for branch in handle.branches()} == {BranchState.QUEUED}
    assert fleet.run_cli("resume", handle.id).returncode == 0
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert fleet.requests("Take your time") == 2 * STEPS
    assert result.stats.lost_leases == 0
    done = fleet.run_cli("resume", handle.id)
    assert (done.returncode, "nothing to resume" in done.stderr) == (2, True)


def test_a_swarm_that_is_paused_before_its_plan_or_between_stages_stands_still(
    fleet: FleetStack, client: Client
) -> None:
    repo = fleet.repository("between")
    plan = Plan(
        subtasks=(
            Subtask(name="keeper", instruction="Take your time"),
            Subtask(name="Alpha", instruction="Write alpha", dependencies=("keeper",)),
        )
    )
    handle = client.submit(plan, repo=repo, cache="bypass")
    events = handle.events()
    until(lambda: next(events).data.get("step") == STEPS or None, "the last step")
    assert handle.pause()
    until(lambda: next(events).type is EventType.STAGE_FINISHED or None, "the stage's end")
    assert handle.status().paused
    assert fleet.requests("Write alpha") == 0
    assert handle.resume()
    assert handle.result(TIMEOUT).success
    assert "alpha.txt" in git(repo, "ls-tree", "--name-only", f"swarmq/{handle.id}")


@pytest.mark.parametrize(
    ("limit", "amount"), [("max_tokens", 12 * TOKENS_PER_CALL), ("max_cost_usd", 12 * USD_PER_CALL)]
)
def test_a_budget_ends_branches_with_their_work_committed(
    fleet: FleetStack, client: Client, limit: str, amount: float
) -> None:
    repo = fleet.repository("budget")
    options: dict[str, Any] = {limit: amount}
    priced = Client(fleet.url, settings=fleet.settings().model_copy(update={"model": None}))  # the workers' is used
    with priced:
        handle = priced.submit(timekeepers(6), repo=repo, cache="bypass", **options)
        result = handle.result(TIMEOUT)
    assert (result.limit, result.success) == (limit, False)
    usage, cost = result.stats.usage, result.stats.cost_usd
    assert cost == pytest.approx(result.stats.total_steps * USD_PER_CALL)
    assert cost is not None
    spent = cost if limit == "max_cost_usd" else usage.input_tokens + usage.output_tokens
    assert amount / 2 < spent <= amount
    outcomes = {branch.spec.id: branch.outcome for branch in client.get(handle.id).branches() if branch.outcome}
    exhausted = {id_: outcome for id_, outcome in outcomes.items() if outcome.exit is Exit.BUDGET_EXHAUSTED}
    worked = [id_ for id_, outcome in exhausted.items() if outcome.tool_calls]
    assert worked
    for branch_id in worked:
        assert exhausted[branch_id].files == ("time.txt",)
        assert "time.txt" in client.get(handle.id).diff(branch_id, stat=True)
    assert f"limit: {limit} ended it" in fleet.run_cli("watch", handle.id).stderr
    assert "Not merged: 1 file in commit" in result.report


def test_a_cost_limit_without_a_price_is_refused_by_whoever_knows_the_model(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("unpriced")
    with pytest.raises(OptionError, match=r"max_cost_usd: the price of test:scripted is not known"):
        client.submit(timekeepers(1), repo=repo, max_cost_usd=1)  # this side has no prices
    del fleet.variables["SWARMQ_ENDPOINTS__TEST__PRICES"]
    fleet.kill("agents")
    fleet.start_worker("agents")
    with Client(fleet.url, settings=fleet.settings().model_copy(update={"model": None})) as unknowing:
        result = unknowing.submit(timekeepers(1), repo=repo, max_cost_usd=1).result(TIMEOUT)
    assert (result.state, fleet.requests("Take your time")) == (SwarmState.FAILED, 0)
    assert result.error is not None
    assert result.error.startswith("planning failed: max_cost_usd: the price of test:scripted is not known")


def test_a_small_swarm_does_not_wait_behind_a_large_one(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("fair")
    large = client.submit(timekeepers(18, "large"), repo=repo, cache="bypass")
    events = large.events()
    until(lambda: next(events).type is EventType.BRANCH_FINISHED or None, "a busy fleet")
    small = client.submit(timekeepers(2, "small"), repo=repo, cache="bypass")
    assert small.result(TIMEOUT).success
    ended = sum(branch.state is BranchState.DONE for branch in large.branches())
    assert ended < 18 - 3, "the small swarm ended behind the large one"  # 3 at once: it was not served last
    assert large.result(TIMEOUT).success
