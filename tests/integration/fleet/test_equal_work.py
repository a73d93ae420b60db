"""Equal work that is under way is waited for, whatever becomes of the branch that does it, and of those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_fakes import BRANCH, says
from fleet_fakes import OneModel, Sent

from swarmq.errors import PermanentModelError
from swarmq.fleet.branch import run_branch
from swarmq.fleet.ending import cancel_swarm
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.pausing import pause_swarm, resume_swarm
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.pool import StopReason
from swarmq.fleet.result_cache import EqualWork
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import start_stage
from swarmq.models.branch import BranchRecord, BranchState, Exit, Outcome
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.spent import Spent
from swarmq.models.swarm import SwarmSpec
from swarmq.settings import load_settings
from swarmq.store.store import Store

FIRST, SECOND, THIRD = "swarm00001", "swarm00002", "swarm00003"
PLAN = Plan(subtasks=(Subtask(name="Reader", instruction="Look", kind="read"),))
WAITS = f"waiting for equal work in {FIRST}/reader"


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path, lease_seconds=1, heartbeat_seconds=0.05, model="test:x")
    return Runtime(settings, store, OneModel(), Sent(), "worker")  # type: ignore[arg-type]


class Call:
    """A call of the model that is under way until it is told what to answer."""

    def __init__(self) -> None:
        self.begun, self._told = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def __call__(self) -> Any:
        self.begun.set()
        return await self._told

    def ends(self, with_: Any) -> None:
        self._told.set_exception(with_) if isinstance(with_, Exception) else self._told.set_result(with_)


def turns(runtime: Runtime, *more: Any) -> None:
    assert isinstance(runtime.models, OneModel)
    runtime.models.model.turns += more


def asked(runtime: Runtime) -> int:
    assert isinstance(runtime.models, OneModel)
    return runtime.models.model.asked


async def started(runtime: Runtime, swarm_id: str, **options: Any) -> None:
    """A swarm with one branch that is queued."""
    spec = SwarmSpec(id=swarm_id, task="look", options=SwarmOptions(**options), plan=PLAN, created_at=time.time())
    await runtime.store.swarms.create(spec)
    await plan_swarm(runtime, swarm_id)
    await start_stage(runtime, swarm_id)


def run(runtime: Runtime, swarm_id: str, job: Any = None) -> asyncio.Task[dict[str, Any]]:
    return asyncio.create_task(run_branch(runtime, swarm_id, "reader", job, None))


async def ended(task: asyncio.Task[dict[str, Any]]) -> str:
    return str((await asyncio.wait_for(task, 20))["status"])


async def branch(runtime: Runtime, swarm_id: str) -> BranchRecord:
    return await runtime.store.branches.load(swarm_id, "reader")


async def outcome(runtime: Runtime, swarm_id: str) -> Outcome:
    found = (await branch(runtime, swarm_id)).outcome
    assert found is not None
    return found


async def seen(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await look():
            await asyncio.sleep(0.001)


async def waiting(runtime: Runtime, swarm_id: str) -> None:
    """Until its heartbeat says so."""

    async def says_so() -> bool:
        observed = (await branch(runtime, swarm_id)).observation
        return observed is not None and observed.doing == WAITS

    await seen(says_so)


async def one_waits_for_the_other(runtime: Runtime, job: Any = None) -> tuple[Call, Any, Any]:
    """The call of the one that works, and both branches' tasks."""
    await started(runtime, FIRST)
    await started(runtime, SECOND)
    calling = Call()
    turns(runtime, calling)
    works = run(runtime, FIRST)
    await asyncio.wait_for(calling.begun.wait(), 20)
    waits = run(runtime, SECOND, job)
    await waiting(runtime, SECOND)
    return calling, works, waits


async def test_equal_work_of_two_swarms_is_done_once(runtime: Runtime) -> None:
    calling, works, waits = await one_waits_for_the_other(runtime)
    calling.ends(says("It is there."))
    assert (await ended(works), await ended(waits)) == ("completed", "completed")
    assert asked(runtime) == 1
    mine, other = await outcome(runtime, FIRST), await outcome(runtime, SECOND)
    assert (other.text, other.cached_from, other.steps) == ("It is there.", f"{FIRST}/reader", 0)
    assert other.spared == Spent(steps=1, tokens=110, cost_usd=0.0, seconds=mine.duration_seconds)
    told = [event for event in await runtime.store.events.read(SECOND) if event.branch == "reader"]
    kinds = [event.type for event in told]
    assert kinds.count(EventType.BRANCH_WAITING) == 1
    assert kinds.index(EventType.BRANCH_WAITING) < kinds.index(EventType.BRANCH_CACHED)
    await finish_stage(runtime, SECOND, 0)
    await finish_swarm(runtime, SECOND)
    result = (await runtime.store.swarms.load(SECOND)).result
    assert result is not None
    stats = result.stats
    assert (stats.cache_hits, stats.cache_misses, stats.cache_waits) == (1, 0, 1)
    assert stats.saved_by_cache == other.spared


async def test_one_of_those_that_wait_follows_a_leader_that_fails(runtime: Runtime) -> None:
    calling, works, waits = await one_waits_for_the_other(runtime)
    await started(runtime, THIRD)
    also_waits = run(runtime, THIRD)
    await waiting(runtime, THIRD)
    turns(runtime, says("It is there."))
    calling.ends(PermanentModelError("bad key", 401))
    assert [await ended(task) for task in (works, waits, also_waits)] == ["failed", "completed", "completed"]
    assert asked(runtime) == 2
    cached = [(await outcome(runtime, swarm)).cached_from is None for swarm in (SECOND, THIRD)]
    assert sorted(cached) == [False, True], "one did the work, the other took its result"


async def test_who_waits_follows_a_leader_that_died(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: Any) -> None:
        return

    calling, works, waits = await one_waits_for_the_other(runtime)
    monkeypatch.setattr(runtime.store.flights, "lead", silent)  # no heartbeat renews the lease, and nobody rings
    monkeypatch.setattr(runtime.store.flights, "leave", silent)
    turns(runtime, says("It is there."))
    assert await ended(waits) == "completed"
    assert (await outcome(runtime, SECOND)).cached_from is None
    assert not works.done()
    calling.ends(says("It is here."))
    assert await ended(works) == "completed"


async def test_a_leader_that_is_given_back_keeps_nobody_waiting_for_its_slot(runtime: Runtime) -> None:
    """All slots of a worker may be held by those that wait: a leader that has none must not be waited for."""
    job: Any = SimpleNamespace(stopping=None, others_stay=False)
    await started(runtime, FIRST)
    await started(runtime, SECOND)
    calling = Call()
    turns(runtime, calling, says("It is there."))
    works = run(runtime, FIRST, job)
    await asyncio.wait_for(calling.begun.wait(), 20)
    waits = run(runtime, SECOND)
    await waiting(runtime, SECOND)
    job.stopping = StopReason.HAND_OVER
    works.cancel()
    with pytest.raises(asyncio.CancelledError):
        await works
    assert (await branch(runtime, FIRST)).state is BranchState.QUEUED
    assert await ended(waits) == "completed"
    assert (await outcome(runtime, SECOND)).cached_from is None


async def test_a_leader_that_is_paused_is_followed_at_once(runtime: Runtime) -> None:
    calling, works, waits = await one_waits_for_the_other(runtime)
    await pause_swarm(runtime.store, FIRST, "lunch")
    turns(runtime, says("It is there."))
    calling.ends(says(""))  # an answer without words is asked for again: the step that a pause forbids
    assert await ended(works) == "parked"
    assert await ended(waits) == "completed"


async def test_who_waits_can_be_paused_and_finds_the_result_afterwards(runtime: Runtime) -> None:
    calling, works, waits = await one_waits_for_the_other(runtime)
    await pause_swarm(runtime.store, SECOND, "lunch")
    assert await ended(waits) == "parked"
    assert (await branch(runtime, SECOND)).state is BranchState.QUEUED
    calling.ends(says("It is there."))
    assert await ended(works) == "completed"
    assert await resume_swarm(runtime.store, runtime.dispatch, SECOND)
    assert await ended(run(runtime, SECOND)) == "completed"
    assert (await outcome(runtime, SECOND)).cached_from == f"{FIRST}/reader"
    assert asked(runtime) == 1


async def test_who_waits_can_be_cancelled(runtime: Runtime) -> None:
    calling, works, waits = await one_waits_for_the_other(runtime)
    assert await cancel_swarm(runtime.store, runtime.dispatch, SECOND, "enough")
    assert await ended(waits) == "cancelled"
    assert (await outcome(runtime, SECOND)).exit is Exit.CANCELLED
    calling.ends(says("It is there."))
    assert await ended(works) == "completed", "the one that works leads on"


async def test_who_waits_can_be_handed_over(runtime: Runtime) -> None:
    job: Any = SimpleNamespace(stopping=None, others_stay=False)
    calling, works, waits = await one_waits_for_the_other(runtime, job)
    job.stopping = StopReason.HAND_OVER
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    again = run(runtime, SECOND)
    calling.ends(says("It is there."))
    assert (await ended(works), await ended(again)) == ("completed", "completed")
    assert (await outcome(runtime, SECOND)).cached_from == f"{FIRST}/reader"
    assert asked(runtime) == 1


async def test_a_retry_finds_the_work_of_other_limits_but_not_of_another_verify(runtime: Runtime) -> None:
    edit = PLAN.subtasks[0].model_copy(update={"kind": Kind.EDIT})
    await started(runtime, FIRST)
    first, spec = await runtime.store.swarms.load(FIRST), (await branch(runtime, FIRST)).spec
    await EqualWork(runtime, first, edit, spec, None).keep(Outcome(exit=Exit.COMPLETED, text="It is there."))
    for swarm_id, options, hit in (
        (SECOND, {"max_steps_per_subagent": 7}, True),
        (THIRD, {"max_steps_per_subagent": 7, "verify": ("pytest",)}, False),
    ):
        await started(runtime, swarm_id, **options)
        swarm = await runtime.store.swarms.load(swarm_id)
        again = swarm.model_copy(update={"spec": swarm.spec.model_copy(update={"retry_of": FIRST})})
        spec = (await branch(runtime, swarm_id)).spec
        found = await EqualWork(runtime, again, edit, spec, None).find(runtime.store.events.emit)
        assert (found is not None) == hit


async def test_bypassed_work_waits_for_nobody(runtime: Runtime) -> None:
    await started(runtime, FIRST)
    await started(runtime, SECOND, cache="bypass")
    calling = Call()
    turns(runtime, calling, says("It is here."))
    works = run(runtime, FIRST)
    await asyncio.wait_for(calling.begun.wait(), 20)
    assert await ended(run(runtime, SECOND)) == "completed"
    calling.ends(says("It is there."))
    assert await ended(works) == "completed"
    assert asked(runtime) == 2


async def test_candidates_of_a_race_do_not_wait_for_each_other_and_resolvers_for_nobody(runtime: Runtime) -> None:
    await started(runtime, FIRST)
    swarm = await runtime.store.swarms.load(FIRST)
    told: list[str] = []

    async def tell(doing: str, _: Any) -> None:
        told.append(doing)

    for changed in (
        {"id": "reader", "candidate": 1},
        {"id": "reader.2", "candidate": 2},
        {"id": "reader.3", "candidate": 3, "approach": "smallest change"},
        {"id": "reader.4", "candidate": 3, "model": "test:y"},
        {"id": "reader.r1", "resolves": "reader"},
        {"id": "reader.r2", "resolves": "reader"},
    ):
        spec = BRANCH.model_copy(update={"swarm_id": FIRST, **changed})
        work = EqualWork(runtime, swarm, PLAN.subtasks[0], spec, None)
        assert await asyncio.wait_for(work.find(tell), 20) is None
        await work.keep(Outcome(exit=Exit.COMPLETED, text=spec.id))
    assert told == []
    assert (await runtime.store.cache.stats())["entries"] == 4
