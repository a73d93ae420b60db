"""Pausing and resuming in each phase of a swarm, and what reconcile does meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import Turn, call, says
from fleet_fakes import OneModel, Sent

from swarmq.errors import TransientModelError
from swarmq.fleet.branch import run_branch
from swarmq.fleet.ending import cancel_swarm
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.pausing import pause_swarm, resume_swarm
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import start_stage
from swarmq.models.branch import BranchState
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmSpec, SwarmState
from swarmq.settings import load_settings
from swarmq.store import keys
from swarmq.store.store import Store
from swarmq.store.transcripts import Reservation

SWARM = "swarm00001"
PLAN = Plan(
    subtasks=(
        Subtask(name="Reader", instruction="Look", kind="read"),
        Subtask(name="Later", instruction="Look again", kind="read", dependencies=("Reader",)),
    )
)


PLANNED = says("", call("submit_plan", subtasks=[{"name": "A", "instruction": "B"}]))


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(
        state_dir=tmp_path, lease_seconds=3, heartbeat_seconds=0.5, queue_patience_seconds=0.05, model="test:x"
    )
    return Runtime(settings, store, OneModel(), Sent(), "worker")  # type: ignore[arg-type]


def sent(runtime: Runtime) -> list[tuple[Any, ...]]:
    assert isinstance(runtime.dispatch, Sent)
    return runtime.dispatch.take()


def says_next(runtime: Runtime, *turns: Turn) -> None:
    assert isinstance(runtime.models, OneModel)
    runtime.models.model.turns += turns


async def submitted(store: Store, plan: Plan | None = PLAN, **options: Any) -> None:
    spec = SwarmSpec(id=SWARM, task="look", options=SwarmOptions(**options), plan=plan, created_at=time.time() - 60)
    await store.swarms.create(spec)
    await store.gate.call("HINCRBYFLOAT", keys.SWARM(SWARM), "recorded_at", -60)  # as if that was a minute ago


async def resumed(runtime: Runtime) -> list[tuple[Any, ...]]:
    assert await resume_swarm(runtime.store, runtime.dispatch, SWARM)
    return sent(runtime)


async def run(runtime: Runtime, branch_id: str) -> str:
    return str((await run_branch(runtime, SWARM, branch_id, None, None))["status"])


async def test_a_swarm_can_be_paused_in_every_phase_and_goes_on_from_there(runtime: Runtime) -> None:
    store = runtime.store
    await submitted(store)
    assert await pause_swarm(store, SWARM, "first")
    await plan_swarm(runtime, SWARM)
    assert (await store.swarms.load(SWARM)).state is SwarmState.SUBMITTED
    assert await reconcile(runtime) == 0
    assert await resumed(runtime) == [("plan", SWARM)]

    await plan_swarm(runtime, SWARM)
    assert sent(runtime) == [("start_stage", SWARM, 0)]
    await pause_swarm(store, SWARM, "second")
    await start_stage(runtime, SWARM)
    assert (await store.swarms.load(SWARM)).stage == -1
    assert await resumed(runtime) == [("plan", SWARM)]  # which finds the plan, and goes on

    await start_stage(runtime, SWARM)
    assert sent(runtime) == [("stage", SWARM, 0, ["reader"])]
    await pause_swarm(store, SWARM, "third")
    assert await run(runtime, "reader") == "held"
    assert await reconcile(runtime) == 0
    assert await resumed(runtime) == [("branches", SWARM, ("reader",))]

    says_next(runtime, says("It is there."))
    assert await run(runtime, "reader") == "completed"
    await pause_swarm(store, SWARM, "fourth")
    await finish_stage(runtime, SWARM, 0)
    sent(runtime)
    await start_stage(runtime, SWARM)
    assert await reconcile(runtime) == 0
    assert await resumed(runtime) == [("start_stage", SWARM, 1)]

    await finish_stage(runtime, SWARM, 0)
    await start_stage(runtime, SWARM)
    says_next(runtime, says("It is still there."))
    assert await run(runtime, "later") == "completed"
    await finish_stage(runtime, SWARM, 1)
    sent(runtime)
    await pause_swarm(store, SWARM, "too late to hold anything")
    await finish_swarm(runtime, SWARM)
    assert (await store.swarms.load(SWARM)).state is SwarmState.SUCCEEDED
    assert not await resume_swarm(store, runtime.dispatch, SWARM)
    decided = [(entry.actor, entry.action) for entry in await store.audit.read(SWARM)]
    assert decided.count(("user", "pause")) == 5


async def in_stage_0(runtime: Runtime, **options: Any) -> None:
    await submitted(runtime.store, **options)
    await plan_swarm(runtime, SWARM)
    await start_stage(runtime, SWARM)
    sent(runtime)


async def test_a_branch_in_a_paused_swarm_ends_its_step_and_is_given_back(runtime: Runtime) -> None:
    await in_stage_0(runtime)

    async def pausing() -> Any:
        await pause_swarm(runtime.store, SWARM, "in the middle of a call")
        return says("", call("list", path="."))

    says_next(runtime, pausing, says("It is there."))
    assert await run(runtime, "reader") == "parked"
    branch = await runtime.store.branches.load(SWARM, "reader")
    assert (branch.state, branch.deliveries) == (BranchState.QUEUED, 0)
    assert [entry.message.role for entry in await runtime.store.transcripts.load(SWARM, "reader")][-1] == "tool"
    assert sent(runtime) == []
    assert await resumed(runtime) == [("branches", SWARM, ("reader",))]
    assert await run(runtime, "reader") == "completed"
    outcome = (await runtime.store.branches.load(SWARM, "reader")).outcome
    assert outcome is not None
    assert outcome.steps == 2
    assert (await runtime.store.swarms.counters(SWARM))["reserved_tokens"] == 0


async def test_a_branch_that_is_given_back_as_its_swarm_is_resumed_is_published(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_stage_0(runtime)
    release = runtime.store.branches.release

    async def just_resumed(*args: Any) -> bool:
        assert await resumed(runtime) == []  # it is still running, as far as anybody can see
        return await release(*args)

    async def pausing() -> Any:
        await pause_swarm(runtime.store, SWARM, "for a moment")
        return says("", call("list", path="."))

    monkeypatch.setattr(runtime.store.branches, "release", just_resumed)
    says_next(runtime, pausing)
    assert await run(runtime, "reader") == "parked"
    assert sent(runtime) == [("branches", SWARM, ["reader"])]


async def test_a_call_that_waits_for_a_permit_is_not_made_in_a_pause(runtime: Runtime) -> None:
    await in_stage_0(runtime)
    asked = asyncio.Event()
    says_next(runtime, crowded(runtime, asked), says("It is there."))
    running = asyncio.create_task(run(runtime, "reader"))
    await asyncio.wait_for(asked.wait(), 10)
    await pause_swarm(runtime.store, SWARM, "lunch")
    assert await asyncio.wait_for(running, 10) == "parked"
    assert await resumed(runtime) == [("branches", SWARM, ("reader",))]
    assert await run(runtime, "reader") == "completed"


def crowded(runtime: Runtime, waits: asyncio.Event) -> Turn:
    """A turn that waits for its permit for ever."""

    async def wait() -> Any:
        await runtime.models.model.caller.on_wait("test", "crowded")  # type: ignore[attr-defined]
        waits.set()
        await asyncio.Event().wait()

    return wait


async def test_a_planner_that_waits_for_a_permit_does_not_call_in_a_pause(runtime: Runtime) -> None:
    await submitted(runtime.store, plan=None, strategy="automatic")
    waits = asyncio.Event()
    says_next(runtime, crowded(runtime, waits), PLANNED)
    planning = asyncio.create_task(plan_swarm(runtime, SWARM))
    await asyncio.wait_for(waits.wait(), 10)
    await pause_swarm(runtime.store, SWARM, "lunch")
    await asyncio.wait_for(planning, 10)
    record = await runtime.store.swarms.load(SWARM)
    assert (record.plan, record.error, record.state) == (None, None, SwarmState.PLANNING)
    assert sent(runtime) == []
    assert await resumed(runtime) == [("plan", SWARM)]
    await plan_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).plan is not None


async def test_a_planner_whose_call_runs_finishes_it_in_a_pause(runtime: Runtime) -> None:
    await submitted(runtime.store, plan=None, strategy="automatic")

    async def pausing() -> Any:
        await runtime.models.model.caller.on_wait("test", "crowded")  # type: ignore[attr-defined]
        await runtime.models.model.caller.on_waited(1)  # type: ignore[attr-defined]
        await pause_swarm(runtime.store, SWARM, "lunch")
        await asyncio.sleep(2 * runtime.settings.heartbeat_seconds)  # as long as it would be noticed in
        return PLANNED

    says_next(runtime, pausing)
    await plan_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).plan is not None


async def test_a_synthesis_that_waits_for_a_permit_does_not_call_in_a_pause(runtime: Runtime) -> None:
    await before_its_end(runtime)
    waits = asyncio.Event()
    says_next(runtime, crowded(runtime, waits), says("All is there."))
    finishing = asyncio.create_task(finish_swarm(runtime, SWARM))
    await asyncio.wait_for(waits.wait(), 10)
    await pause_swarm(runtime.store, SWARM, "lunch")
    await asyncio.wait_for(finishing, 10)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.FINISHING
    assert await resumed(runtime) == [("finish_swarm", SWARM)]
    await finish_swarm(runtime, SWARM)
    result = (await runtime.store.swarms.load(SWARM)).result
    assert result is not None
    assert (result.state, result.answer) == (SwarmState.SUCCEEDED, "All is there.")


async def test_a_synthesis_that_is_cancelled_is_not_waited_for(runtime: Runtime) -> None:
    await before_its_end(runtime)
    waits = asyncio.Event()
    says_next(runtime, crowded(runtime, waits))
    finishing = asyncio.create_task(finish_swarm(runtime, SWARM))
    await asyncio.wait_for(waits.wait(), 10)
    assert await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough")
    await asyncio.wait_for(finishing, 10)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.CANCELLED


async def before_its_end(runtime: Runtime) -> None:
    """Nothing is left to do but the synthesis."""
    await between_the_stages(runtime, synthesize=True)
    await resumed(runtime)
    await start_stage(runtime, SWARM)
    says_next(runtime, says("It is still there."))
    assert await run(runtime, "later") == "completed"
    await finish_stage(runtime, SWARM, 1)
    sent(runtime)


async def test_a_call_that_waits_to_be_retried_is_not_made_in_a_pause(runtime: Runtime) -> None:
    await in_stage_0(runtime)

    async def failing() -> Any:
        await pause_swarm(runtime.store, SWARM, "lunch")
        raise TransientModelError("overloaded", 503, 600)

    says_next(runtime, failing, says("It is there."))
    assert await asyncio.wait_for(run(runtime, "reader"), 10) == "parked"
    assert await resumed(runtime) == [("branches", SWARM, ("reader",))]
    assert await run(runtime, "reader") == "completed"


async def pauses_and_is_refused(runtime: Runtime) -> Any:
    await pause_swarm(runtime.store, SWARM, "lunch")
    raise TransientModelError("overloaded", 503, 600)


async def test_a_planner_that_waits_to_ask_again_does_not_in_a_pause(runtime: Runtime) -> None:
    await submitted(runtime.store, plan=None, strategy="automatic")
    says_next(runtime, partial(pauses_and_is_refused, runtime), PLANNED)
    await asyncio.wait_for(plan_swarm(runtime, SWARM), 10)
    assert await resumed(runtime) == [("plan", SWARM)]
    await plan_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).plan is not None


async def test_a_synthesis_that_waits_to_ask_again_does_not_in_a_pause(runtime: Runtime) -> None:
    await before_its_end(runtime)
    says_next(runtime, partial(pauses_and_is_refused, runtime), says("All is there."))
    await asyncio.wait_for(finish_swarm(runtime, SWARM), 10)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.FINISHING
    assert await resumed(runtime) == [("finish_swarm", SWARM)]
    await finish_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.SUCCEEDED


async def test_what_stands_still_is_sent_once_however_many_look(runtime: Runtime) -> None:
    await in_stage_0(runtime)
    await runtime.store.gate.call("HINCRBYFLOAT", keys.BRANCH(SWARM, "reader"), "queued_at", -60)
    assert sum(await asyncio.gather(*(reconcile(runtime) for _ in range(5)))) == 1
    assert sent(runtime) == [("branches", SWARM, ["reader"])]
    assert await run_after(lambda: reconcile(runtime)) == 1
    claim = await runtime.store.branches.claim(SWARM, "reader", "worker", 0.001)
    assert claim.status == "claimed"
    assert await run_after(lambda: reconcile(runtime)) == 1  # another standstill: it does not wait for the first one's


async def run_after(look: Callable[[], Awaitable[int]]) -> int:
    """What ``look`` answers first that is not nothing."""
    async with asyncio.timeout(10):
        while not (found := await look()):
            await asyncio.sleep(0.001)
        return found


async def test_a_lost_branch_of_a_paused_swarm_waits_and_of_a_cancelled_one_ends(runtime: Runtime) -> None:
    await in_stage_0(runtime)
    await runtime.store.branches.claim(SWARM, "reader", "lost", 0.001)
    await pause_swarm(runtime.store, SWARM, "lunch")
    assert await reconcile(runtime) == 0
    await runtime.store.swarms.request_cancel(SWARM, "enough")
    assert await run_after(lambda: reconcile(runtime)) == 1
    assert await run(runtime, "reader") == "cancelled"


async def test_reconcile_gives_back_what_a_lost_branch_reserved(runtime: Runtime) -> None:
    await in_stage_0(runtime)
    lost = await runtime.store.branches.claim(SWARM, "reader", "lost", 0.001)
    nothing: dict[str, Any] = {"steps": 0, "tool_calls": 0, "usage": Usage()}
    await runtime.store.transcripts.record(
        SWARM, "reader", lost.token, 0, (), (), **nothing, reserve=Reservation(tokens=50)
    )
    assert (await runtime.store.swarms.counters(SWARM))["reserved_tokens"] == 50
    assert await run_after(lambda: reconcile(runtime)) == 1
    assert (await runtime.store.swarms.counters(SWARM))["reserved_tokens"] == 0


async def between_the_stages(runtime: Runtime, **options: Any) -> None:
    """Stage 0 is closed, the swarm is paused, and the message of what comes next is gone."""
    await in_stage_0(runtime, **options)
    says_next(runtime, says("It is there."))
    assert await run(runtime, "reader") == "completed"
    await finish_stage(runtime, SWARM, 0)
    await pause_swarm(runtime.store, SWARM, "lunch")
    await start_stage(runtime, SWARM)
    sent(runtime)


async def test_a_swarm_that_is_cancelled_in_a_pause_between_its_stages_ends_at_once(runtime: Runtime) -> None:
    await between_the_stages(runtime)
    assert await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough")
    assert sent(runtime) == [("finish_stage", SWARM, 0)]
    await finish_stage(runtime, SWARM, 0)
    assert sent(runtime) == [("finish_swarm", SWARM)]
    await finish_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.CANCELLED


async def test_a_swarm_that_is_paused_before_its_synthesis_is_left_alone_until_it_is_cancelled(
    runtime: Runtime,
) -> None:
    await before_its_end(runtime)
    await pause_swarm(runtime.store, SWARM, "lunch")
    await finish_swarm(runtime, SWARM)
    sent(runtime)
    assert [await reconcile(runtime) for _ in range(3)] == [0, 0, 0]
    assert await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough")
    assert sent(runtime) == [("finish_swarm", SWARM)]
    await finish_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.CANCELLED
