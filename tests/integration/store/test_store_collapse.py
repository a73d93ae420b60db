"""The controller's memory: one look follows another, marks are all or nothing, and locks die with their holder."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import DONE, LEASE_SECONDS, SWARM, opened

from swarmq.errors import NotFoundError
from swarmq.models.branch import BranchState, Observation
from swarmq.models.collapse import CollapsePolicy, CollapseState, Evaluation, Kill, ScoreEntry, Tally, Vector
from swarmq.models.events import Event, EventType
from swarmq.store import keys
from swarmq.store.store import Store

STATE = CollapseState(at=5.0, tallies={"a": Tally(steps=3, compile_failures=2)}, promoted={"a": "a.2"})
VECTOR = Vector(compile=1, tests=0.6, contract=1, conflict_risk=0, velocity=0.1, resources=1)
ENTRY = ScoreEntry(
    at=5.0,
    scope="race",
    policy=CollapsePolicy(),
    evaluations=(Evaluation(branch_id="a", group="a", vector=VECTOR, score=0.9),),
)


def kill(branch_id: str) -> tuple[Kill, Event]:
    reason = f"Cancelled by collapse controller: {branch_id} is behind"
    event = Event(type=EventType.BRANCH_KILLED, at=1.0, swarm=SWARM, branch=branch_id, data={"reason": reason})
    return Kill(branch_id=branch_id, reason=reason, score=0.25), event


async def running(store: Store, *branch_ids: str) -> None:
    await opened(store, *branch_ids)
    for branch_id in branch_ids:
        assert (await store.branches.claim(SWARM, branch_id, "w1", LEASE_SECONDS)).status == "claimed"


async def test_a_state_is_kept_between_looks(store: Store) -> None:
    await running(store, "a")
    first = await store.collapse.recall(SWARM)
    assert (first.looks, first.state) == (0, CollapseState())
    assert await store.collapse.decide(SWARM, 0, STATE, ENTRY, []) == []
    second = await store.collapse.recall(SWARM)
    assert (second.looks, second.state) == (1, STATE)
    assert await store.collapse.scores(SWARM) == [ENTRY]
    assert await store.collapse.decide(SWARM, 1, STATE, None, []) == []
    assert len(await store.collapse.scores(SWARM)) == 1


async def test_a_kill_marks_tells_and_is_audited_once(store: Store) -> None:
    await running(store, "a", "b", "c")
    await store.branches.cancel(SWARM, "b", "the user's")
    finished = await store.branches.finish(SWARM, "c", 1, DONE)
    assert not finished.advance
    marked = await store.collapse.decide(SWARM, 0, STATE, None, [kill("a"), kill("b"), kill("c"), kill("none")])
    assert marked == ["a"]
    branches = {branch.spec.id: branch for branch in await store.branches.load_all(SWARM)}
    assert branches["a"].cancel_reason == kill("a")[0].reason
    assert branches["a"].state is BranchState.RUNNING
    assert branches["b"].cancel_reason == "the user's"
    assert branches["c"].cancel_reason is None
    killed = [event for event in await store.events.read(SWARM) if event.type is EventType.BRANCH_KILLED]
    assert [event.branch for event in killed] == ["a"]
    audit = [entry for entry in await store.audit.read(SWARM) if entry.actor == "collapse"]
    assert [(entry.action, entry.detail["branch"], entry.detail["score"]) for entry in audit] == [("kill", "a", 0.25)]
    renewal = await store.branches.renew(SWARM, "a", 1, LEASE_SECONDS, Observation(at=1))
    assert renewal.cancel_reason == kill("a")[0].reason  # the heartbeat finds it where the revoke is lost


async def test_of_two_controllers_that_saw_the_same_only_one_decides(store: Store) -> None:
    """Each would spare the branch that the other stops."""
    await running(store, "a", "b")
    answers = await asyncio.gather(
        store.collapse.decide(SWARM, 0, STATE, None, [kill("a")]),
        store.collapse.decide(SWARM, 0, STATE, None, [kill("b")]),
    )
    assert sorted(answer is None for answer in answers) == [False, True]
    marked = [branch for branch in await store.branches.load_all(SWARM) if branch.cancel_reason is not None]
    assert len(marked) == 1


async def test_nothing_is_decided_on_a_paused_or_cancelled_swarm(store: Store) -> None:
    await running(store, "a")
    await store.control.pause(SWARM, "lunch")
    assert await store.collapse.decide(SWARM, 0, STATE, ENTRY, [kill("a")]) is None
    await store.control.resume(SWARM)
    await store.swarms.request_cancel(SWARM, "enough")
    assert await store.collapse.decide(SWARM, 0, STATE, ENTRY, [kill("a")]) is None
    assert (await store.branches.load(SWARM, "a")).cancel_reason is None
    with pytest.raises(NotFoundError):
        await store.collapse.decide("none", 0, STATE, None, [])


async def test_the_lock_is_for_one_and_ends_with_its_lease(store: Store) -> None:
    async with store.collapse.lock(60) as first:
        assert first
        async with store.collapse.lock(60) as second:
            assert not second
        async with store.collapse.lock(60) as third:  # who did not get it does not give it back
            assert not third
    async with store.collapse.lock(0.001) as fourth:
        assert fourth
        while await store.gate.call("EXISTS", keys.COLLAPSE_LOCK()):
            await asyncio.sleep(0.001)
        async with store.collapse.lock(60) as fifth:
            assert fifth
            raw = await store.gate.call("GET", keys.COLLAPSE_LOCK())
    assert raw is not None
    assert not await store.gate.call("EXISTS", keys.COLLAPSE_LOCK())


async def test_running_branches_are_found_by_id(store: Store) -> None:
    assert await store.branches.load_running(SWARM) == []
    await running(store, "b", "a")
    assert [branch.spec.id for branch in await store.branches.load_running(SWARM)] == ["a", "b"]
