"""Swarms: one record each, whoever creates it how often, and an end after which all its keys expire."""

from __future__ import annotations

import time

import pytest
from store_samples import (
    DONE,
    SWARM,
    event,
    opened,
    plan,
    record,
    result,
    swarm_result,
    swarm_spec,
)
from valkey_server import Valkey

from swarmq.errors import NotFoundError, SchemaError, UsageError
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskStatus, SwarmState
from swarmq.store import keys
from swarmq.store.store import Store


async def test_a_swarm_is_created_once(store: Store) -> None:
    spec = swarm_spec()
    assert await store.swarms.create(spec, {"task_id": "other", "chain": None}) == SWARM
    assert await store.swarms.create(spec.model_copy(update={"task": "another task"})) == SWARM
    found = await store.swarms.load(SWARM)
    assert found.spec == spec
    assert (found.state, found.stage, found.plan, found.result) == (SwarmState.SUBMITTED, -1, None, None)
    assert found.canvases == ({"task_id": "other", "chain": None},)
    assert await store.swarms.active() == [SWARM]
    assert await store.swarms.by_task(f"task-{SWARM}") == SWARM
    assert await store.swarms.by_task("unknown") is None
    assert [told.type for told in await store.events.read(SWARM)] == [EventType.SWARM_STARTED]
    assert [told.swarm for told in await store.events.read(None)] == [SWARM]


async def test_the_same_idempotency_key_gives_the_first_swarm(store: Store) -> None:
    first = swarm_spec(idempotency_key="nightly")
    second = first.model_copy(update={"id": "swarm00002", "celery_task_id": "task-2"})
    assert await store.swarms.by_key("nightly") is None
    assert await store.swarms.create(first) == SWARM
    assert await store.swarms.by_key("nightly") == SWARM
    assert await store.swarms.create(second) == SWARM
    with pytest.raises(NotFoundError):
        await store.swarms.load("swarm00002")
    other = second.model_copy(
        update={"task": "another", "options": SwarmOptions(max_total_steps=1, idempotency_key="nightly")}
    )
    assert await store.swarms.create(other) == SWARM, "whatever else is asked for"
    await store.swarms.finish(SWARM, swarm_result())
    assert await store.swarms.create(other) == SWARM, "also after the end"
    assert (await store.swarms.load(SWARM)).spec == first
    await store.gate.call("DEL", keys.SWARM(SWARM))  # gone, but its key is still there
    assert await store.swarms.by_key("nightly") is None
    assert await store.swarms.create(second) == "swarm00002"


async def test_every_producer_of_a_swarm_is_remembered_once(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    for task_id in ("one", "two", "one"):
        await store.swarms.add_canvas(SWARM, {"task_id": task_id, "chain": [{"task": "next"}]})
    canvases = (await store.swarms.load(SWARM)).canvases
    assert sorted(canvas["task_id"] for canvas in canvases) == ["one", "two"]
    assert canvases[0]["chain"] == [{"task": "next"}]
    assert await store.swarms.by_task("two") == SWARM


async def test_states_move_forward_and_an_end_is_final(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    swarms = store.swarms
    assert await swarms.set_state(SWARM, SwarmState.PLANNING, {SwarmState.SUBMITTED})
    assert await swarms.set_state(SWARM, SwarmState.PLANNING, {SwarmState.SUBMITTED})  # is there already
    assert not await swarms.set_state(SWARM, SwarmState.FINISHING, {SwarmState.RUNNING})
    assert await swarms.set_state(SWARM, SwarmState.FINISHING)
    assert (await swarms.load(SWARM)).started_at > 0
    with pytest.raises(ValueError, match="final"):
        await swarms.set_state(SWARM, SwarmState.FAILED)
    assert await swarms.finish(SWARM, swarm_result(branch="swarmq/x", commit="c0ffee"))
    assert not await swarms.set_state(SWARM, SwarmState.RUNNING)
    assert not await swarms.finish(SWARM, swarm_result(SwarmState.FAILED))
    assert not await swarms.request_cancel(SWARM, "too late")
    found = await swarms.load(SWARM)
    assert (found.state, found.result) == (SwarmState.SUCCEEDED, swarm_result(branch="swarmq/x", commit="c0ffee"))
    assert await swarms.active() == []
    finished = (await store.events.read(SWARM))[-1]
    assert finished.data == {"state": "succeeded", "branch": "swarmq/x", "commit": "c0ffee", "error": None}
    assert [told.type for told in await store.events.read(None)] == [EventType.SWARM_STARTED, EventType.SWARM_FINISHED]


async def test_the_first_plan_error_and_cancel_reason_stay(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    chosen = Plan(
        subtasks=(
            Subtask(name="Read it", instruction="read", kind="read"),
            Subtask(name="Mend it", instruction="mend", dependencies=("Read it",)),
        )
    )
    assert await store.swarms.set_plan(SWARM, chosen, note="the model had to be asked twice")
    assert not await store.swarms.set_plan(SWARM, plan("other"))
    await store.swarms.set_error(SWARM, "first")
    await store.swarms.set_error(SWARM, "second")
    assert await store.swarms.request_cancel(SWARM, "one")
    assert await store.swarms.request_cancel(SWARM, "two")
    found = await store.swarms.load(SWARM)
    assert (found.plan, found.error, found.cancel_reason) == (chosen, "first", "one")
    planned = [told for told in await store.events.read(SWARM) if told.type is EventType.SWARM_PLANNED]
    assert [told.data["note"] for told in planned] == ["the model had to be asked twice"]
    assert planned[0].data["subtasks"][1] == {
        "id": "mend-it",
        "name": "Mend it",
        "stage": 1,
        "kind": "edit",
        "dependencies": ["Read it"],
    }


async def test_a_cancel_that_was_accepted_is_never_overruled(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    assert await store.swarms.request_cancel(SWARM, "enough")
    for state in (SwarmState.SUCCEEDED, SwarmState.PARTIAL, SwarmState.FAILED):
        assert not await store.swarms.finish(SWARM, swarm_result(state))
    assert (await store.swarms.load(SWARM)).state is SwarmState.SUBMITTED
    assert await store.swarms.finish(SWARM, swarm_result(SwarmState.CANCELLED))
    assert not await store.swarms.request_cancel(SWARM, "again")
    finished = [told for told in await store.events.read(SWARM) if told.type is EventType.SWARM_FINISHED]
    assert [told.data["state"] for told in finished] == ["cancelled"]


async def test_status_is_a_short_view(store: Store) -> None:
    await opened(store, "a", "b", "c")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    await record(store, "a", held.token, 0, "one", "two", steps=2)
    await store.swarms.put_results(SWARM, {"b": result("b", SubtaskStatus.BLOCKED)})
    status = await store.swarms.status(SWARM)
    assert (status.state, status.task, status.stage, status.stages) == (SwarmState.RUNNING, "mend the parser", 0, 1)
    assert status.subtasks == {"running": 1, "blocked": 1, "pending": 1}
    assert (status.steps, status.tokens, status.branch) == (2, 22, None)
    await store.swarms.finish(SWARM, swarm_result(SwarmState.PARTIAL, branch="swarmq/x"))
    status = await store.swarms.status(SWARM)
    assert (status.state, status.branch) == (SwarmState.PARTIAL, "swarmq/x")
    assert status.finished_at >= status.created_at - 5


async def test_results_of_an_ended_swarm_stay(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    await store.swarms.put_results(SWARM, {})
    await store.swarms.put_results(SWARM, {"a": result("a"), "b": result("b", SubtaskStatus.CONFLICT)})
    await store.swarms.finish(SWARM, swarm_result())
    await store.swarms.put_results(SWARM, {"a": result("a", SubtaskStatus.FAILED)})
    assert (await store.swarms.load(SWARM)).results == {"a": result("a"), "b": result("b", SubtaskStatus.CONFLICT)}


async def test_lists_are_newest_first_and_forget_what_is_gone(store: Store, valkey: Valkey) -> None:
    ids = [f"swarm{n:05}" for n in range(5)]
    for id_ in ids:
        await store.swarms.create(swarm_spec(id_))
    await store.swarms.finish("swarm00003", swarm_result())
    with valkey.server.client(valkey.database) as client:
        client.delete(keys.SWARM("swarm00001"))  # as its expiry would
    listed = await store.swarms.list(10)
    assert [status.id for status in listed] == ["swarm00004", "swarm00003", "swarm00002", "swarm00000"]
    assert [status.id for status in await store.swarms.list(2)] == ["swarm00004", "swarm00003"]
    ended = await store.swarms.list(10, states=[SwarmState.SUCCEEDED])
    assert [status.id for status in ended] == ["swarm00003"]
    assert await store.gate.call("ZSCORE", keys.ALL_SWARMS(), "swarm00001") is None


async def test_ids_are_found_by_a_unique_beginning(store: Store) -> None:
    for id_ in ("abcd000000", "abce000000", "xyz0000000"):
        await store.swarms.create(swarm_spec(id_))
    assert await store.swarms.resolve("x") == "xyz0000000"
    assert await store.swarms.resolve("abcd000000") == "abcd000000"
    with pytest.raises(UsageError, match=r"not unique: abce000000, abcd000000"):
        await store.swarms.resolve("abc")
    for unknown in ("q", ""):
        with pytest.raises(NotFoundError):
            await store.swarms.resolve(unknown)


async def test_counters_are_added_once(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    await store.swarms.add(SWARM, retries=2, rate_limit_wait_seconds=1.5, cache_hits=0)
    await store.swarms.add(SWARM, retries=1)
    await store.swarms.add(SWARM)
    assert await store.swarms.counters(SWARM) == {"retries": 3.0, "rate_limit_wait_seconds": 1.5}


async def test_what_is_not_there(store: Store) -> None:
    swarms = store.swarms
    for call in (
        swarms.load("nowhere000"),
        swarms.status("nowhere000"),
        swarms.set_error("nowhere000", "x"),
        swarms.request_cancel("nowhere000", "x"),
        swarms.put_results("nowhere000", {"a": result("a")}),
        swarms.finish("nowhere000", swarm_result()),
        swarms.add("nowhere000", retries=1),
        store.events.emit("nowhere000", event()),
        store.audit.append("nowhere000", "me", "did", {}),
        store.shared.publish("nowhere000", "key", "me", 1),
    ):
        with pytest.raises(NotFoundError, match="nowhere000"):
            await call
    assert await store.gate.call("DBSIZE") == 0


async def test_a_record_of_an_unknown_version_is_refused(store: Store) -> None:
    await opened(store, "a")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    await store.gate.call("HSET", keys.BRANCH(SWARM, "a"), "v", "2")
    for call in (
        store.branches.load(SWARM, "a"),
        store.branches.load_all(SWARM),
        store.branches.claim(SWARM, "a", "w", 1),
    ):
        with pytest.raises(SchemaError, match=r"branch a of swarm \w+: schema version 2, this swarmq knows 1"):
            await call
    await store.gate.call("HSET", keys.STAGE(SWARM, 0), "v", "2")
    with pytest.raises(SchemaError, match="stage 0"):
        await store.stages.load(SWARM, 0)
    await store.gate.call("HSET", keys.SWARM(SWARM), "v", "2")
    for swarm_call in (
        store.swarms.load(SWARM),
        store.swarms.status(SWARM),
        store.swarms.set_error(SWARM, "x"),
        store.branches.claim(SWARM, "a", "w", 1),
        store.branches.finish(SWARM, "a", held.token, DONE),
        store.jobs.claim(SWARM, "plan", "w", 1),
    ):
        with pytest.raises(SchemaError, match=r"swarm \w+: schema version 2, this swarmq knows 1; update swarmq"):
            await swarm_call


async def test_a_record_that_does_not_parse_is_refused(store: Store) -> None:
    await opened(store, "a")
    await store.gate.call("HSET", keys.BRANCH(SWARM, "a"), "outcome", '{"exit": "vanished"}')
    with pytest.raises(SchemaError, match=r"branch a of swarm \w+, outcome: exit"):
        await store.branches.load(SWARM, "a")


async def test_texts_that_no_encoding_can_carry_are_stored_all_the_same(store: Store) -> None:
    await opened(store, "a")
    broken = "half a pair: \ud83d"
    await store.swarms.set_error(SWARM, broken)
    await store.events.emit(SWARM, event(text=broken))
    await store.shared.publish(SWARM, "key", "a", {"text": broken})
    held = await store.branches.claim(SWARM, "a", "w", 60)
    await store.branches.finish(SWARM, "a", held.token, DONE.model_copy(update={"text": broken}))
    outcome = (await store.branches.load(SWARM, "a")).outcome
    assert outcome is not None
    assert outcome.text == "half a pair: ?"
    assert time.time() - (await store.events.read(SWARM))[-1].at < 60
