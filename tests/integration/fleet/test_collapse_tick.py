"""One tick of the collapse controller on real records: who is looked at, who is stopped, and what repeats do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarmq.fleet.collapse import collapse
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchSpec, BranchState, Exit, Observation, Outcome
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE, CollapsePolicy, Decision
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.pods import PodHealth
from swarmq.models.swarm import SwarmSpec
from swarmq.settings import load_settings
from swarmq.store.store import Store

SWARM = "swarm00001"
GOOD = Observation(at=1.0, steps=4, files=("a.py",), changed_lines=10, changed_at=0.5, checks=True)
BAD = GOOD.model_copy(update={"checks": False, "problems": ("a.py: line 1: invalid syntax",)})


class Revokes:
    """A dispatcher that only stops branches."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    async def terminate(self, task_ids: Collection[str]) -> None:
        self.stopped += task_ids

    async def branches(self, *_: object) -> None:
        return

    async def finish_stage(self, *_: object) -> None:
        return


class Pods:
    """They are the same in every list."""

    def __init__(self, health: Mapping[str, PodHealth]) -> None:
        self.health, self.asked = health, [set[str]()]

    async def health_of(self, workers: Collection[str]) -> Mapping[str, PodHealth]:
        self.asked.append(set(workers))
        seen_at = float(len(self.asked))
        return {worker: found.model_copy(update={"seen_at": seen_at}) for worker, found in self.health.items()}


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path, lease_seconds=10, heartbeat_seconds=5)
    return Runtime(settings, store, None, Revokes(), "control")  # type: ignore[arg-type]


def stopped(runtime: Runtime) -> list[str]:
    assert isinstance(runtime.dispatch, Revokes)
    return runtime.dispatch.stopped


async def race(store: Store, *seen: Observation | None, **options: Any) -> None:
    """A swarm whose one subtask is raced by as many candidates; None has not started."""
    given = {"collapse_policy": CollapsePolicy.seed()} | options
    plan = Plan(subtasks=(Subtask(name="fix", instruction="fix it"),))
    spec = SwarmSpec(id=SWARM, task="fix", options=SwarmOptions(**given), plan=plan, created_at=time.time())
    await store.swarms.create(spec)
    await store.swarms.set_plan(SWARM, plan)
    branches = [
        BranchSpec(
            swarm_id=SWARM,
            id="fix" if number == 1 else f"fix.{number}",
            subtask_id="fix",
            stage=0,
            kind=Kind.EDIT,
            celery_task_id="t",
            candidate=number,
        )
        for number in range(1, len(seen) + 1)
    ]
    await store.stages.open(SWARM, 0, branches, 100)
    for branch, observation in zip(branches, seen, strict=True):
        if observation is not None:
            await store.branches.claim(SWARM, branch.id, f"worker@{branch.id}", 60)
            await observe(store, branch.id, observation)


async def observe(store: Store, branch_id: str, observation: Observation) -> None:
    renewal = await store.branches.renew(SWARM, branch_id, 1, 60, observation)
    assert renewal.alive


async def reasons(store: Store) -> dict[str, str]:
    branches = await store.branches.load_all(SWARM)
    return {branch.spec.id: branch.cancel_reason for branch in branches if branch.cancel_reason is not None}


async def test_a_tick_stops_who_loses_and_tells_why(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, GOOD, BAD, GOOD)
    assert await collapse(runtime) == 1
    assert stopped(runtime) == [f"{SWARM}.fix.2"]
    why = f"{CANCELLED_BY_COLLAPSE}its files failed their checks 1 times in a row: a.py: line 1: invalid syntax"
    assert await reasons(store) == {"fix.2": why}
    assert await collapse(runtime) == 0  # it has not ended yet, and is not stopped twice
    assert stopped(runtime) == [f"{SWARM}.fix.2"]
    entries = await store.collapse.scores(SWARM)
    first = {one.branch_id: one.decision for one in entries[0].evaluations}
    assert sorted(first.values()) == [Decision.KEPT, Decision.KILLED, Decision.PROMOTED]
    assert first["fix.2"] is Decision.KILLED


async def test_the_last_one_of_a_race_is_left_through_any_number_of_ticks(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, BAD, BAD, BAD)
    for tick in range(4):
        await collapse(runtime)
        left = {"fix", "fix.2", "fix.3"} - (await reasons(store)).keys()
        for branch_id in left:
            await observe(store, branch_id, BAD.model_copy(update={"at": 2.0 + tick}))
    assert len(left) == 1


@pytest.mark.parametrize("options", [{"collapse": "off"}, {}])
async def test_who_is_not_to_be_judged_is_left_alone(runtime: Runtime, options: dict[str, str]) -> None:
    """Where collapse is off, and in a paused swarm."""
    store = runtime.store
    await race(store, GOOD, BAD, **options)
    if not options:
        await store.control.pause(SWARM, "lunch")
    assert await collapse(runtime) == 0
    assert await reasons(store) == {}
    if not options:
        await store.control.resume(SWARM)
        assert await collapse(runtime) == 1


async def test_a_waiting_candidate_is_not_judged_and_a_lost_one_neither(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, GOOD, None, BAD)
    await store.branches.renew(SWARM, "fix.3", 1, -1, BAD)  # its holder is gone: another one will go on
    assert await collapse(runtime) == 0
    entries = await store.collapse.scores(SWARM)
    assert [one.branch_id for entry in entries for one in entry.evaluations] == ["fix"]


async def test_pods_are_asked_for_once_and_a_sick_one_ends_its_branch(runtime: Runtime) -> None:
    sick = PodHealth(score=0.0, signals=3, reason="OOMKilled")
    pods = Pods({"worker@fix.2": sick, "worker@fix.3": sick.model_copy(update={"dead": True})})
    runtime = replace(runtime, pods=pods)
    policy = CollapsePolicy(max_consecutive_resource_failures=2, max_invariant_breaks=100)
    await race(runtime.store, GOOD, GOOD, GOOD, collapse_policy=policy)
    assert await collapse(runtime) == 0
    assert await collapse(runtime) == 1
    assert await reasons(runtime.store) == {
        "fix.2": f"{CANCELLED_BY_COLLAPSE}its pod was in bad health 2 times in a row (OOMKilled)"
    }
    assert pods.asked[1:] == [{"worker@fix", "worker@fix.2", "worker@fix.3"}] * 2


async def test_while_another_controller_looks_nothing_is_done(runtime: Runtime) -> None:
    await race(runtime.store, GOOD, BAD)
    async with runtime.store.collapse.lock(60):
        assert await collapse(runtime) == 0
    assert await collapse(runtime) == 1


async def test_a_race_without_verify_ends_at_its_deadline_by_score(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, BAD, GOOD, GOOD, GOOD, None, collapse="off", race_deadline_seconds=0.05)
    await store.branches.finish(SWARM, "fix", 1, Outcome(exit=Exit.COMPLETED))
    dear = Outcome(exit=Exit.COMPLETED, usage=Usage(input_tokens=100))
    await store.branches.finish(SWARM, "fix.2", 1, dear)
    await store.branches.finish(SWARM, "fix.3", 1, Outcome(exit=Exit.COMPLETED))
    started = (await store.branches.load(SWARM, "fix")).started_at
    while await store.now() < started + 0.05:
        await asyncio.sleep(0.005)
    assert await collapse(runtime) == 2
    assert (await store.races.load(SWARM))["fix"].winner == "fix.3"
    assert stopped(runtime) == [f"{SWARM}.fix.4"]
    why = f"{CANCELLED_BY_COLLAPSE}fix.3 had the best score at the race's deadline"
    assert await reasons(store) == {"fix.4": why, "fix.5": why}
    waiting = await store.branches.load(SWARM, "fix.5")
    assert waiting.state is BranchState.DONE  # it had not started: the mark was its end
    assert await collapse(runtime) == 0


async def test_losers_whose_winner_died_before_stopping_them_are_stopped(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, GOOD, GOOD, collapse="off")
    await store.branches.finish(SWARM, "fix.2", 1, Outcome(exit=Exit.COMPLETED), wins=True)
    await reconcile(runtime)
    assert await reasons(store) == {"fix": f"{CANCELLED_BY_COLLAPSE}fix.2 won the race"}
    await reconcile(runtime)
    assert [entry.action for entry in await store.audit.read(SWARM) if entry.actor == "race"] == ["cancelled"]


async def test_losers_of_a_race_whose_decider_died_are_stopped_with_its_reason(runtime: Runtime) -> None:
    store = runtime.store
    await race(store, GOOD, GOOD)
    await store.branches.finish(SWARM, "fix.2", 1, Outcome(exit=Exit.COMPLETED))
    await store.races.decide(SWARM, "fix", "fix.2")
    await reconcile(runtime)
    assert await reasons(store) == {"fix": f"{CANCELLED_BY_COLLAPSE}fix.2 had the best score at the race's deadline"}
