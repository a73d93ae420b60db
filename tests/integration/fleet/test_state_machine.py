"""The tasks' coroutines against a real store, with the races and faults that a fleet only meets by chance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from swarmq.client import AsyncSwarmHandle
from swarmq.errors import DiskFullError, LeaseLost, StoreError
from swarmq.fleet import finish as finish_module
from swarmq.fleet import planning as planning_module
from swarmq.fleet.accept import Submission, accept
from swarmq.fleet.branch import run_branch
from swarmq.fleet.branch_work import BranchWork
from swarmq.fleet.claims import MOST_FAILURES, failures_of, held_job
from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import cancel_swarm
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.journal import StoreJournal
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import finish, start_stage
from swarmq.models.branch import Exit, Observation, Outcome
from swarmq.models.messages import Message, Role, Text, Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmSpec, SwarmState
from swarmq.models.transcript import Entry
from swarmq.orchestrator.decompose import Decomposition
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, load_settings
from swarmq.store import keys
from swarmq.store.store import Store

SWARM = "swarm00001"
READER = Plan(subtasks=(Subtask(name="Reader", instruction="Look", kind="read"),))


class Sent:
    """A dispatcher that keeps what would be published."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[bool]]:
        async def send(*args: Any, **_: Any) -> bool:
            self.messages.append((name, *args))
            return True

        return send

    def names(self) -> list[str]:
        return [message[0] for message in self.messages]


def canvas(task_id: str) -> dict[str, Any]:
    empty = ("chain", "link", "link_error", "chord", "group_id", "group_index", "root_id", "parent_id")
    return {"task_id": task_id, **dict.fromkeys(empty)}


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(
        state_dir=tmp_path, lease_seconds=3, heartbeat_seconds=0.5, queue_patience_seconds=0.1, model="test:x"
    )
    return Runtime(settings, store, Models(settings), Sent(), "worker")  # type: ignore[arg-type]


def sent(runtime: Runtime) -> Sent:
    assert isinstance(runtime.dispatch, Sent)
    return runtime.dispatch


def told(runtime: Runtime) -> list[str]:
    """The producers that were sent the swarm's value, by their Celery task id."""
    return [message[2]["task_id"] for message in sent(runtime).messages if message[0] == "deliver"]


async def submitted(store: Store, swarm_id: str = SWARM, plan: Plan | None = READER, **options: Any) -> None:
    spec = SwarmSpec(
        id=swarm_id,
        task="look",
        options=SwarmOptions(**options),
        plan=plan,
        created_at=time.time() + 3600,  # the producer's clock counts for nothing
        celery_task_id=f"task-{swarm_id}",
    )
    await store.swarms.create(spec)
    await store.gate.call("HINCRBYFLOAT", keys.SWARM(swarm_id), "recorded_at", -60)  # as if that was a minute ago


async def in_stage_0(runtime: Runtime) -> None:
    """The swarm with its only branch running."""
    await submitted(runtime.store)
    await runtime.store.swarms.set_plan(SWARM, READER)
    await start_stage(runtime, SWARM)
    assert (await runtime.store.branches.claim(SWARM, "reader", "worker", 60)).status == "claimed"
    sent(runtime).messages.clear()


async def test_a_job_whose_lease_is_lost_ends_with_an_ordinary_exception(runtime: Runtime) -> None:
    """A CancelledError out of a task that nobody stopped would leave its message unacked, and its slot taken."""
    await submitted(runtime.store)

    async def overtaken() -> None:
        async with held_job(runtime, SWARM, "plan") as held:
            assert held == 1
            await runtime.store.jobs.release(SWARM, "plan", held)
            assert (await runtime.store.jobs.claim(SWARM, "plan", "other", 60)).status == "claimed"
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await overtaken()
    assert (await runtime.store.jobs.look(SWARM, "plan")).held


async def test_a_job_outlives_a_beat_that_redis_does_not_answer(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(runtime.store)
    renew, renewed, failures = runtime.store.jobs.renew, asyncio.Event(), [StoreError("away")]

    async def once_away(*args: Any) -> None:
        if failures:
            raise failures.pop()
        await renew(*args)
        renewed.set()

    monkeypatch.setattr(runtime.store.jobs, "renew", once_away)
    async with held_job(runtime, SWARM, "plan"):
        await asyncio.wait_for(renewed.wait(), 10)


async def test_a_job_that_fails_again_and_again_fails_its_swarm(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Decomposition:
        raise KeyError("no such thing")

    monkeypatch.setattr(planning_module, "_decompose", broken)
    await submitted(runtime.store)
    await runtime.store.control.pause(SWARM, "lunch")
    for _ in range(MOST_FAILURES):
        await plan_swarm(runtime, SWARM)  # claims that do nothing are no failures
    await runtime.store.control.resume(SWARM)
    for _ in range(MOST_FAILURES):
        assert (await runtime.store.swarms.load(SWARM)).error is None
        with pytest.raises(KeyError):
            await plan_swarm(runtime, SWARM)
    await plan_swarm(runtime, SWARM)
    assert sent(runtime).names() == ["finish_swarm"]
    await finish_swarm(runtime, SWARM)
    record = await runtime.store.swarms.load(SWARM)
    assert (record.state, record.error) == (SwarmState.FAILED, "plan failed: KeyError: 'no such thing'")


async def test_failures_count_in_a_row(runtime: Runtime) -> None:
    await submitted(runtime.store)
    for turn in range(3 * MOST_FAILURES):
        if turn % MOST_FAILURES == 0:
            async with held_job(runtime, SWARM, "merge"):
                assert await failures_of(runtime, SWARM, "merge") == (MOST_FAILURES - 1 if turn else 0)
        else:
            with pytest.raises(OSError, match="full"):
                async with held_job(runtime, SWARM, "merge"):
                    raise OSError("full")
        assert (await runtime.store.swarms.load(SWARM)).error is None


async def test_a_job_that_kills_its_worker_again_and_again_fails_its_swarm(runtime: Runtime) -> None:
    await submitted(runtime.store)
    for _ in range(MOST_FAILURES):
        assert (await runtime.store.swarms.load(SWARM)).error is None
        with pytest.raises(LeaseLost):
            async with held_job(runtime, SWARM, "merge"):
                raise LeaseLost("as one that is killed, it gives nothing back")
        claim = await runtime.store.jobs.claim(SWARM, "merge", "dies", 60)
        assert claim.status == "claimed"
        await runtime.store.gate.call("HSET", keys.JOBS(SWARM), "merge:until", "1")
    async with held_job(runtime, SWARM, "merge"):
        pass
    assert (await runtime.store.swarms.load(SWARM)).error == "merge failed: its worker was lost"


async def test_cancelling_aborts_the_planning(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    started, aborted = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> Decomposition:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            aborted.set()
        raise AssertionError

    monkeypatch.setattr(planning_module, "_decompose", slow)
    await submitted(runtime.store, plan=None)
    planning = asyncio.create_task(plan_swarm(runtime, SWARM))
    await started.wait()
    await runtime.store.swarms.request_cancel(SWARM, "enough")
    await asyncio.wait_for(planning, 10)
    assert aborted.is_set()
    assert sent(runtime).names() == ["finish_swarm"]


async def test_redis_being_away_does_not_fail_the_planning(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> bool:
        raise StoreError("away")

    monkeypatch.setattr(planning_module, "_decompose", lambda *_: planned())
    await submitted(runtime.store)
    with monkeypatch.context() as patch:
        patch.setattr(runtime.store.swarms, "set_plan", away)
        with pytest.raises(StoreError):
            await plan_swarm(runtime, SWARM)
    assert (await runtime.store.swarms.load(SWARM)).error is None
    await plan_swarm(runtime, SWARM)
    assert sent(runtime).messages == [("start_stage", SWARM, 0)]


async def planned() -> Decomposition:
    return Decomposition(READER, None, Usage())


@pytest.mark.parametrize("late", ["start_stage", "plan", "finish"])
async def test_a_late_message_does_not_end_a_swarm_whose_branches_run(runtime: Runtime, late: str) -> None:
    await in_stage_0(runtime)
    await runtime.store.swarms.request_cancel(SWARM, "enough")
    if late == "start_stage":
        await start_stage(runtime, SWARM)
    elif late == "plan":
        await plan_swarm(runtime, SWARM)
    else:
        await finish(runtime, await runtime.store.swarms.load(SWARM))
    assert sent(runtime).messages == []
    assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.RUNNING


async def test_a_producer_that_joins_while_the_swarm_ends_gets_its_value(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(runtime.store)
    await runtime.store.swarms.add_canvas(SWARM, canvas("first"))
    result = finish_module._result

    async def joined(*args: Any) -> Any:
        await accept(runtime, SWARM, canvas("second"))
        return await result(*args)

    monkeypatch.setattr(finish_module, "_result", joined)
    await finish_swarm(runtime, SWARM)
    assert sorted(told(runtime)) == ["first", "second"]


async def test_a_producers_message_that_comes_again_after_the_end_has_its_canvas_go_on_no_second_time(
    runtime: Runtime,
) -> None:
    await submitted(runtime.store)
    await accept(runtime, SWARM, canvas("first"))
    await finish_swarm(runtime, SWARM)
    assert told(runtime) == ["first"]
    assert await runtime.store.swarms.active() == []

    await accept(runtime, SWARM, canvas("first"))
    await finish_swarm(runtime, SWARM)
    assert told(runtime) == ["first"]

    sent(runtime).messages.clear()
    await accept(runtime, SWARM, canvas("second"))  # by an idempotency key
    assert sent(runtime).messages == [("finish_swarm", SWARM)]
    assert await runtime.store.swarms.active() == [SWARM]  # should that message be lost
    await finish_swarm(runtime, SWARM)
    assert told(runtime) == ["second"]
    assert await runtime.store.swarms.active() == []


async def test_who_dies_while_telling_producers_leaves_those_that_are_not_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(runtime.store)
    for name in ("first", "second"):
        await runtime.store.swarms.add_canvas(SWARM, canvas(name))
    deliver = sent(runtime).deliver

    async def dies(swarm_id: str, wanted: dict[str, Any]) -> bool:
        if told(runtime):
            raise ConnectionError("gone")
        return await deliver(swarm_id, wanted)

    monkeypatch.setattr(sent(runtime), "deliver", dies)
    with pytest.raises(ConnectionError):
        await finish_swarm(runtime, SWARM)
    assert (len(told(runtime)), await runtime.store.swarms.active()) == (1, [SWARM])
    monkeypatch.undo()
    await finish_swarm(runtime, SWARM)
    assert sorted(told(runtime)) == ["first", "second"]


async def test_a_cancel_while_the_result_is_made_up_counts(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_stage_0(runtime)
    await runtime.store.branches.finish(SWARM, "reader", 1, Outcome(exit=Exit.COMPLETED, text="seen"))
    await finish_stage(runtime, SWARM, 0)
    result = finish_module._result
    cancelled: list[bool] = []
    states: list[SwarmState] = []

    async def interrupted(*args: Any) -> Any:
        made = await result(*args)
        states.append(made.state)
        if not cancelled:
            cancelled.append(await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough"))
        return made

    monkeypatch.setattr(finish_module, "_result", interrupted)
    await finish_swarm(runtime, SWARM)
    record = await runtime.store.swarms.load(SWARM)
    assert (cancelled, states) == ([True], [SwarmState.SUCCEEDED, SwarmState.CANCELLED])
    assert record.state is SwarmState.CANCELLED
    assert record.result is not None
    assert "Cancelled: enough" in record.result.report
    assert record.result.subtasks[0].success, "what was done stays"
    assert not await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "again")


async def test_a_cancel_without_a_reason_reaches_the_holder_of_a_branch(runtime: Runtime) -> None:
    await in_stage_0(runtime)
    assert await AsyncSwarmHandle(runtime, SWARM).cancel("")  # type: ignore[arg-type]
    seen = Observation(at=1.0, steps=0, tokens=0, doing="model call")
    renewal = await runtime.store.branches.renew(SWARM, "reader", 1, 60, seen)
    assert renewal.cancel_reason


async def test_a_second_delivery_of_a_producers_message_is_not_checked_again(runtime: Runtime) -> None:
    submission = Submission("look", None, None, READER.model_dump(mode="json"), {})
    await accept(runtime, submission, canvas("once"))
    changed = Submission("look", None, "/no/such/repository", None, {})
    await accept(runtime, changed, canvas("once"))
    assert sent(runtime).names() == ["plan", "plan"]
    assert len(await runtime.store.swarms.active()) == 1


async def test_one_unreadable_swarm_does_not_keep_others_from_recovery(runtime: Runtime) -> None:
    await submitted(runtime.store, "swarm00000")
    await submitted(runtime.store, "swarm00002")
    await runtime.store.gate.call("HSET", "swarmq:{swarm00000}:swarm", "v", "99")
    assert await reconcile(runtime) == 1
    assert sent(runtime).messages == [("plan", "swarm00002")]


async def test_a_synthesis_without_a_key_does_not_keep_the_swarm_from_ending(runtime: Runtime) -> None:
    await submitted(runtime.store, synthesize=True, planner_model="nosuch:model")
    await runtime.store.swarms.set_plan(SWARM, READER)
    await start_stage(runtime, SWARM)
    record = await runtime.store.swarms.load(SWARM)
    answer, error = await finish_module._synthesis(runtime, record, (), None)
    assert answer is None
    assert "the synthesis failed" in (error or "")


async def test_a_producer_whose_message_redis_does_not_take_is_told_by_the_next_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    class Task:
        def apply_async(self, args: tuple[str], **options: Any) -> None:
            tries.append(options["task_id"])
            if len(tries) < 3:
                raise OperationalError("away")

    class App:
        tasks = {"swarmq.deliver": Task()}  # noqa: RUF012

    monkeypatch.setattr(sent(runtime), "deliver", Dispatcher(App()).deliver, raising=False)
    await submitted(runtime.store)
    await runtime.store.swarms.add_canvas(SWARM, canvas("waiting"))
    for untold in ([SWARM], [SWARM], []):
        await finish_swarm(runtime, SWARM)
        assert await runtime.store.swarms.active() == untold  # reconcile looks at those
    assert tries == ["waiting"] * 3


async def test_each_holder_of_a_branch_has_processes_of_its_own(runtime: Runtime) -> None:
    await submitted(runtime.store)
    await runtime.store.swarms.set_plan(SWARM, READER)
    await start_stage(runtime, SWARM)
    cookies = set()
    for _ in range(2):
        claim = await runtime.store.branches.claim(SWARM, "reader", "worker", 0)
        cookies.add(BranchWork(runtime, claim)._cookie(claim.token))
    assert len(cookies) == 2


async def test_a_branch_that_is_given_up_tells_what_it_has_used(runtime: Runtime) -> None:
    await submitted(runtime.store, max_deliveries=1)
    await runtime.store.swarms.set_plan(SWARM, READER)
    await start_stage(runtime, SWARM)
    claim = await runtime.store.branches.claim(SWARM, "reader", "lost", 60)
    assert claim.record is not None
    usage, message = Usage(input_tokens=70), Message(role=Role.ASSISTANT, parts=(Text(text="Well"),))
    answer = Entry(step=1, at=time.time(), message=message, usage=usage)
    journal = StoreJournal(runtime.store, claim.record.spec, claim.token)
    await journal.record([answer], [], steps=1, tool_calls=0, usage=usage, expected=None)
    await runtime.store.gate.call("HSET", keys.BRANCH(SWARM, "reader"), "lease_until", 1)
    assert (await run_branch(runtime, SWARM, "reader", None, None))["status"] == "failed"
    outcome = (await runtime.store.branches.load(SWARM, "reader")).outcome
    assert outcome is not None
    assert outcome.error == "given up after 1 workers were lost while they ran it (max_deliveries)"
    assert (outcome.steps, outcome.usage.input_tokens, outcome.fault) == (1, 70, "infrastructure")


async def test_a_worker_that_does_not_know_the_price_runs_no_branch_with_a_cost_limit(runtime: Runtime) -> None:
    """Its settings may lack what those of the planner's worker had."""
    await submitted(runtime.store, max_cost_usd=1)
    await runtime.store.swarms.set_plan(SWARM, READER)
    await start_stage(runtime, SWARM)
    runtime.models._settings.endpoints["test"] = EndpointSettings(base_url="http://127.0.0.1:1/v1")
    assert (await run_branch(runtime, SWARM, "reader", None, None))["status"] == "failed"
    outcome = (await runtime.store.branches.load(SWARM, "reader")).outcome
    assert outcome is not None
    assert outcome.fault == "infrastructure"
    assert outcome.error is not None
    assert "the price of test:x is not known, so its cost cannot be limited" in outcome.error


@pytest.mark.parametrize("lasts", [False, True])
async def test_a_disk_that_is_full_when_the_result_is_written(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, lasts: bool
) -> None:
    """Tried again, as often as any job; then the swarm fails with the reason."""

    class Disk:
        full = True

        async def publish(self) -> None:
            if self.full:
                raise DiskFullError("No space left on device")

        async def remove_worktrees(self, _: object) -> None:
            return

    disk = Disk()
    monkeypatch.setattr(finish_module, "repository_of", lambda *_: disk)
    await submitted(runtime.store)
    await runtime.store.swarms.set_plan(SWARM, READER)
    await runtime.store.swarms.set_state(SWARM, SwarmState.FINISHING, {SwarmState.SUBMITTED})
    for _ in range(MOST_FAILURES if lasts else 1):
        with pytest.raises(DiskFullError):
            await finish_swarm(runtime, SWARM)
        assert (await runtime.store.swarms.load(SWARM)).state is SwarmState.FINISHING
    disk.full = lasts
    await finish_swarm(runtime, SWARM)
    record = await runtime.store.swarms.load(SWARM)
    assert record.state is SwarmState.FAILED  # nothing of the plan has run here
    assert ("No space left" in (record.error or "")) is lasts
