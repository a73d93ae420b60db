"""Who owns a branch, and how it ends."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import (
    DONE,
    FAILED,
    LEASE_SECONDS,
    SWARM,
    branch_spec,
    event,
    lease_over,
    opened,
    record,
    swarm_result,
)

from swarmq.errors import LeaseLost, NotFoundError
from swarmq.models.branch import BranchState, Exit, Observation
from swarmq.models.events import EventType
from swarmq.models.swarm import SwarmState
from swarmq.store import keys
from swarmq.store.branches import Claim
from swarmq.store.store import Store


async def claim(store: Store, branch_id: str = "a", lease_seconds: float = LEASE_SECONDS, worker: str = "w1") -> Claim:
    return await store.branches.claim(SWARM, branch_id, worker, lease_seconds)


async def test_a_claim_gives_the_branch_to_one_worker(store: Store) -> None:
    await opened(store, "a")
    claims = await asyncio.gather(*(claim(store, worker=f"w{n}") for n in range(20)))
    assert sorted(found.status for found in claims) == ["claimed"] + ["held"] * 19
    winner = next(found for found in claims if found.status == "claimed")
    record = await store.branches.load(SWARM, "a")
    assert (record.state, record.token, record.deliveries) == (BranchState.RUNNING, 1, 0)
    assert winner.token == 1
    assert winner.record is not None
    assert winner.record.spec == branch_spec("a")
    assert record.lease_until > await store.now() + LEASE_SECONDS - 5
    assert record.started_at > 0
    assert (await store.swarms.status(SWARM)).subtasks == {"running": 1}


async def test_an_expired_lease_is_taken_over_and_the_paused_holder_is_refused(store: Store) -> None:
    await opened(store, "a")
    old = await claim(store, lease_seconds=0.001)
    await record(store, "a", old.token, 0, "one")
    await lease_over(store, "a")
    new = await claim(store, worker="w2")
    assert (new.status, new.token, new.deliveries, new.took_over) == ("claimed", 2, 1, True)
    assert new.lost_worker == "w1"
    with pytest.raises(LeaseLost):
        await record(store, "a", old.token, 1, "two")
    with pytest.raises(LeaseLost):
        await store.branches.finish(SWARM, "a", old.token, DONE)
    with pytest.raises(LeaseLost):
        await store.transcripts.checkpoint(SWARM, "a", old.token, "c0ffee")
    with pytest.raises(LeaseLost):
        await store.shared.bound(SWARM, "a", old.token).publish("key", 1)
    assert not (await store.branches.renew(SWARM, "a", old.token, 60, Observation(at=1))).alive
    await store.branches.release(SWARM, "a", old.token)
    found = await store.branches.load(SWARM, "a")
    assert (found.state, found.token, found.worker) == (BranchState.RUNNING, 2, "w2")
    assert (await store.branches.renew(SWARM, "a", new.token, 60, Observation(at=1))).alive


async def test_an_expired_lease_that_nobody_took_is_renewed(store: Store) -> None:
    await opened(store, "a")
    held = await claim(store, lease_seconds=0.001)
    await lease_over(store, "a")
    seen = Observation(at=1.5, steps=3, tokens=40, doing="bash")
    renewal = await store.branches.renew(SWARM, "a", held.token, LEASE_SECONDS, seen)
    assert renewal.alive
    found = await store.branches.load(SWARM, "a")
    assert found.lease_until > await store.now()
    assert found.observation == seen
    assert (await claim(store)).status == "held"


async def test_a_branch_that_loses_its_workers_is_given_up(store: Store) -> None:
    await opened(store, "a", max_deliveries=2)
    for status, deliveries in (("claimed", 0), ("claimed", 1), ("exhausted", 2), ("exhausted", 3)):
        found = await claim(store, lease_seconds=0.001)
        assert (found.status, found.deliveries) == (status, deliveries)
        await lease_over(store, "a")
    finished = await store.branches.finish(SWARM, "a", found.token, FAILED)
    assert finished.advance


async def test_handing_over_counts_no_delivery_and_keeps_the_slot(store: Store) -> None:
    assert await opened(store, "a", "b", max_subagents=1) == ["a"]
    first = await claim(store)
    await store.branches.release(SWARM, "a", first.token)
    found = await store.branches.load(SWARM, "a")
    assert (found.state, found.lease_until) == (BranchState.QUEUED, 0)
    with pytest.raises(LeaseLost):
        await record(store, "a", first.token, 0, "a late write of the old holder")
    assert (await claim(store, "b")).status == "held"
    second = await claim(store)
    assert (second.status, second.token, second.deliveries, second.took_over) == ("claimed", 2, 0, False)


async def test_the_last_branch_to_end_is_told_to_finish_the_stage(store: Store) -> None:
    await opened(store, "a", "b")
    a, b = await claim(store, "a"), await claim(store, "b")
    assert not (await store.branches.finish(SWARM, "a", a.token, DONE)).advance
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.done_ids) == ("open", frozenset({"a"}))
    ends = [await store.branches.finish(SWARM, "b", b.token, FAILED) for _ in range(2)]
    assert [end.advance for end in ends] == [True, True]  # the same call again: the same answer
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.branch_ids, stage.done_ids) == ("advancing", ("a", "b"), frozenset({"a", "b"}))
    assert (await claim(store, "b")).status == "done"
    assert (await store.swarms.status(SWARM)).subtasks == {"succeeded": 1, "failed": 1}


async def test_finishing_stores_outcome_and_events(store: Store) -> None:
    await opened(store, "a")
    held = await claim(store)
    for _ in range(2):
        await store.branches.finish(SWARM, "a", held.token, DONE, [event(EventType.BRANCH_FINISHED, exit="completed")])
    found = await store.branches.load(SWARM, "a")
    assert found.outcome == DONE
    assert found.finished_at >= found.started_at > 0
    types = [told.type for told in await store.events.read(SWARM)]
    assert types.count(EventType.BRANCH_FINISHED) == 1


async def test_slots_are_given_on_and_never_exceeded(store: Store) -> None:
    ids = [f"s{n}" for n in range(7)]
    active = set(await opened(store, *ids, max_subagents=3))
    assert active == {"s0", "s1", "s2"}
    ended: list[str] = []
    while active:
        branch_id = sorted(active)[0]
        held = await claim(store, branch_id)
        end = await store.branches.finish(SWARM, branch_id, held.token, DONE)
        active = active - {branch_id} | set(end.publish)
        ended.append(branch_id)
        assert len(active) <= 3
        assert end.advance is (not active)
    assert sorted(ended) == ids


async def test_cancelling_a_branch_that_nobody_runs_ends_it(store: Store) -> None:
    assert await opened(store, "a", "b", "c", max_subagents=1) == ["a"]
    waiting = await store.branches.cancel(SWARM, "b", "not needed")
    assert (waiting.was, waiting.advance, waiting.publish) == (BranchState.WAITING, False, ())
    queued = await store.branches.cancel(SWARM, "a", "not needed")
    assert (queued.was, queued.advance, queued.publish) == (BranchState.QUEUED, False, ("c",))
    found = await store.branches.load(SWARM, "a")
    assert found.state is BranchState.DONE
    assert found.outcome is not None
    assert (found.outcome.exit, found.outcome.error) == (Exit.CANCELLED, "not needed")
    assert (await store.branches.cancel(SWARM, "a", "again")).was is BranchState.DONE
    assert (await claim(store, "a")).status == "done"
    last = await store.branches.cancel(SWARM, "c", "not needed")
    assert last.advance
    told = [e.branch for e in await store.events.read(SWARM) if e.type is EventType.BRANCH_FINISHED]
    assert told == ["b", "a", "c"]


async def test_cancelling_a_running_branch_marks_it_and_its_holder_ends_it(store: Store) -> None:
    await opened(store, "a")
    held = await claim(store)
    assert (await store.branches.cancel(SWARM, "a", "enough")).was is BranchState.RUNNING
    assert (await store.branches.cancel(SWARM, "a", "other")).was is BranchState.RUNNING
    renewal = await store.branches.renew(SWARM, "a", held.token, 60, Observation(at=1))
    assert (renewal.alive, renewal.cancel_reason) == (True, "enough")
    assert (await record(store, "a", held.token, 0, "one")).cancel_reason == "enough"
    assert (await claim(store)).status == "held"
    assert (await store.branches.finish(SWARM, "a", held.token, DONE)).advance


async def test_a_cancelled_branch_whose_holder_died_ends_with_the_next_claim(store: Store) -> None:
    await opened(store, "a")
    held = await claim(store)
    await record(store, "a", held.token, 0, "one", steps=1)
    await store.transcripts.checkpoint(SWARM, "a", held.token, "c0ffee")
    await store.branches.cancel(SWARM, "a", "enough")
    await store.gate.call("HSET", keys.BRANCH(SWARM, "a"), "lease_until", 0)
    found = await claim(store, worker="w2")
    assert (found.status, found.advance) == ("cancelled", True)
    outcome = (await store.branches.load(SWARM, "a")).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.error, outcome.steps, outcome.checkpoint) == (Exit.CANCELLED, "enough", 1, "c0ffee")
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 1)
    with pytest.raises(LeaseLost):
        await store.branches.finish(SWARM, "a", held.token, DONE)


async def test_cancelling_a_branch_whose_holder_died_ends_it(store: Store) -> None:
    await opened(store, "a")
    held = await claim(store, lease_seconds=0.001)
    await record(store, "a", held.token, 0, "one", steps=1)
    await lease_over(store, "a")
    cancelled = await store.branches.cancel(SWARM, "a", "enough")
    assert (cancelled.was, cancelled.advance) == (BranchState.RUNNING, True)
    outcome = (await store.branches.load(SWARM, "a")).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.error, outcome.steps) == (Exit.CANCELLED, "enough", 1)
    with pytest.raises(LeaseLost):
        await store.branches.finish(SWARM, "a", held.token, DONE)
    assert (await claim(store)).status == "done"


async def test_no_branch_of_a_cancelled_swarm_can_be_claimed(store: Store) -> None:
    await opened(store, "a", "b", "c", max_subagents=2)
    running = await claim(store, "a")
    assert await store.swarms.request_cancel(SWARM, "changed my mind")
    assert await store.swarms.request_cancel(SWARM, "another reason")
    found = await claim(store, "b")
    assert (found.status, found.publish) == ("cancelled", ())  # c does not start any more
    assert (await claim(store, "c")).status == "cancelled"
    renewal = await store.branches.renew(SWARM, "a", running.token, 60, Observation(at=1))
    assert renewal.cancel_reason == "changed my mind"
    assert (await record(store, "a", running.token, 0)).cancel_reason == "changed my mind"
    assert (await store.branches.finish(SWARM, "a", running.token, DONE)).advance


async def test_a_branch_that_still_runs_when_its_swarm_ends_is_told_to_stop(store: Store) -> None:
    await opened(store, "a", "b")
    held = await claim(store)
    await store.swarms.finish(SWARM, swarm_result(SwarmState.FAILED))
    assert (await record(store, "a", held.token, 0, "one")).cancel_reason == "the swarm has ended"
    assert (await store.branches.renew(SWARM, "a", held.token, 60, Observation(at=1))).cancel_reason is not None
    assert (await claim(store, "b")).status == "cancelled"
    await store.branches.finish(SWARM, "a", held.token, DONE)


async def test_what_is_not_there(store: Store) -> None:
    missing = await claim(store)
    assert (missing.status, missing.record) == ("missing", None)
    assert not (await store.branches.renew(SWARM, "a", 1, 60, Observation(at=1))).alive
    await opened(store, "a")
    assert (await claim(store, "z")).status == "missing"
    assert not await store.branches.exists(SWARM, "z")
    assert await store.branches.exists(SWARM, "a")
    with pytest.raises(NotFoundError, match="has no branch z"):
        await store.branches.load(SWARM, "z")
    with pytest.raises(NotFoundError, match="has no branch z"):
        await store.branches.cancel(SWARM, "z", "why")
    with pytest.raises(LeaseLost):
        await store.branches.finish(SWARM, "z", 1, DONE)
    assert [found.spec.id for found in await store.branches.load_all(SWARM)] == ["a"]
    assert await store.branches.load_all("nowhere000") == []
