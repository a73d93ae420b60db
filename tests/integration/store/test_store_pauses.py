"""Pausing, giving way to other swarms, and what is sent again how often."""

from __future__ import annotations

import pytest
from store_samples import DONE, SWARM, branch_spec, event, opened, plan, swarm_result, swarm_spec, until
from test_store_budgets import claimed, write

from swarmq.errors import NotFoundError
from swarmq.models.branch import BranchState
from swarmq.models.events import EventType
from swarmq.models.swarm import SwarmState
from swarmq.store import keys
from swarmq.store.events import encode
from swarmq.store.store import Store
from swarmq.store.transcripts import Reservation

OTHER = "swarm00002"


async def state(store: Store, branch_id: str) -> BranchState:
    return (await store.branches.load(SWARM, branch_id)).state


async def test_a_paused_swarm_starts_no_step_and_no_branch_and_goes_on_where_it_stood(store: Store) -> None:
    await opened(store, "a", "b", "c", max_subagents=2)
    a = await claimed(store, "a")
    assert await store.control.pause(SWARM, "lunch")
    status, record = await store.swarms.status(SWARM), await store.swarms.load(SWARM)
    assert (status.paused, status.pause_reason, record.pause_reason) == (True, "lunch", "lunch")
    assert (await write(store, "a", a, reserve=Reservation(5))).hold == "paused"
    assert not await store.branches.release(SWARM, "a", a)  # nobody is to be sent a message
    for branch_id in ("a", "b"):
        assert (await store.branches.claim(SWARM, branch_id, "w", 60)).status == "held"
    resumed = await store.control.resume(SWARM)
    assert (resumed.ended, resumed.was_paused, sorted(resumed.publish)) == (False, True, ["a", "b"])
    assert (await store.swarms.status(SWARM)).pause_reason is None
    again = await claimed(store, "a")
    assert (await write(store, "a", again, reserve=Reservation(5))).hold is None
    told = [event.type for event in await store.events.read(SWARM) if event.type.startswith("swarm.")]
    assert told[-2:] == [EventType.SWARM_PAUSED, EventType.SWARM_RESUMED]


async def test_a_slot_that_gets_free_in_a_pause_is_given_on_afterwards(store: Store) -> None:
    await opened(store, "a", "b", max_subagents=1)
    a = await claimed(store, "a")
    await store.control.pause(SWARM, "lunch")
    assert (await store.branches.finish(SWARM, "a", a, DONE)).publish == ()
    assert await state(store, "b") is BranchState.WAITING
    assert (await store.control.resume(SWARM)).publish == ("b",)


async def test_pausing_twice_is_once_and_an_ended_swarm_cannot_be_paused_or_resumed(store: Store) -> None:
    await opened(store, "a")
    assert await store.control.pause(SWARM, "first")
    since = (await store.swarms.load(SWARM)).paused_at
    assert await store.control.pause(SWARM, "second")
    assert (await store.swarms.load(SWARM)).paused_at == since > 0
    assert (await store.control.resume(SWARM)).was_paused
    assert not (await store.control.resume(SWARM)).was_paused
    await store.swarms.finish(SWARM, swarm_result(SwarmState.FAILED))
    assert not await store.control.pause(SWARM, "late")
    assert (await store.control.resume(SWARM)).ended
    with pytest.raises(NotFoundError):
        await store.control.pause("nosuch0000", "why")


async def test_a_paused_swarm_can_be_cancelled(store: Store) -> None:
    await opened(store, "a", "b")
    a = await claimed(store, "a")
    await store.control.pause(SWARM, "lunch")
    await store.swarms.request_cancel(SWARM, "enough")
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "cancelled"
    assert (await write(store, "a", a, reserve=Reservation(5))).cancel_reason == "enough"
    assert not await store.control.pause(SWARM, "again")
    resumed = await store.control.resume(SWARM)
    assert (resumed.ended, resumed.publish) == (True, ()), "what is to end does not go on"


async def test_a_branch_that_is_to_be_cancelled_does_not_wait_for_the_end_of_a_pause(store: Store) -> None:
    await opened(store, "a", "b", "c")
    a, b = await claimed(store, "a"), await claimed(store, "b")
    await store.control.pause(SWARM, "lunch")
    await store.branches.cancel(SWARM, "a", "enough of this one")  # its holder has just found the pause
    assert await store.branches.release(SWARM, "a", a)
    assert (await store.branches.claim(SWARM, "a", "w", 60)).status == "cancelled"
    await store.swarms.request_cancel(SWARM, "enough of all")
    assert await store.branches.release(SWARM, "b", b)
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "cancelled"


async def test_an_ended_swarm_is_not_paused(store: Store) -> None:
    await opened(store, "a")
    await store.control.pause(SWARM, "lunch")
    await store.swarms.request_cancel(SWARM, "enough")
    assert await store.swarms.finish(SWARM, swarm_result(SwarmState.CANCELLED))
    assert not (await store.swarms.status(SWARM)).paused
    assert (await store.swarms.load(SWARM)).paused_at == 0


async def test_a_repeated_command_does_not_undo_what_came_in_between(store: Store) -> None:
    await opened(store, "a")
    names, told = (keys.SWARM(SWARM),), encode(event(EventType.SWARM_PAUSED))
    await store.gate.script("swarm_pause", names, (told, "first", "lunch"))
    await store.gate.script("swarm_resume", names, ("second",))
    assert await store.gate.script("swarm_pause", names, (told, "first", "lunch"))
    assert not (await store.swarms.status(SWARM)).paused
    await store.gate.script("swarm_pause", names, (told, "third", "lunch"))
    assert (await store.gate.script("swarm_resume", names, ("second",)))[0] == b"1"
    assert (await store.swarms.status(SWARM)).paused


async def waits(store: Store, swarm_id: str, branch_id: str) -> None:
    """As if the branch's message had waited for a worker for longer than a moment."""
    await store.gate.call("HINCRBYFLOAT", keys.BRANCH(swarm_id, branch_id), "queued_at", -60)


async def second_swarm(store: Store, *branch_ids: str) -> None:
    await store.swarms.create(swarm_spec(OTHER))
    await store.swarms.set_plan(OTHER, plan(*branch_ids))
    await store.stages.open(OTHER, 0, [branch_spec(id_, swarm_id=OTHER) for id_ in branch_ids], 100)


async def test_a_crowded_swarm_gives_way_to_one_with_fewer_running(store: Store) -> None:
    await opened(store, "a", "b", "c")
    await second_swarm(store, "x")
    await claimed(store, "a")
    await waits(store, SWARM, "b")
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "yielded"
    assert (await store.branches.claim(OTHER, "x", "w", 60)).status == "claimed"
    await waits(store, SWARM, "b")
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "claimed"  # nobody waits any more


async def test_nobody_gives_way_without_a_crowd_twice_in_a_row_or_to_who_cannot_start(store: Store) -> None:
    await opened(store, "a", "b", "c", "d")
    await second_swarm(store, "x")
    await claimed(store, "a")
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "claimed"  # its message came at once
    await waits(store, SWARM, "c")
    assert (await store.branches.claim(SWARM, "c", "w", 60)).status == "yielded"
    assert (await store.branches.claim(SWARM, "c", "w", 60)).status == "claimed"  # the other's message may be lost
    await store.control.pause(OTHER, "lunch")
    await waits(store, SWARM, "d")
    assert (await store.branches.claim(SWARM, "d", "w", 60)).status == "claimed"


async def test_who_gave_way_often_waits_longer_before_it_does_so_again(store: Store) -> None:
    """In a long queue each turn takes seconds: nobody would ever start, were each of them a reason to give way."""
    await opened(store, "a", "b")
    await second_swarm(store, "x")
    await claimed(store, "a")
    yields = 0
    for _ in range(20):  # a turn of the queue is 5 s
        await store.gate.call("HSET", keys.BRANCH(SWARM, "b"), "queued_at", await store.now() - 5)
        claim = await store.branches.claim(SWARM, "b", "w", 60)
        if claim.status == "claimed":
            break
        yields += claim.status == "yielded"
    assert yields == 7, "five times after 1 s, then after 2 and 4 s, and not after 8"
    await store.branches.release(SWARM, "b", claim.token)
    await waits(store, SWARM, "b")
    assert (await store.branches.claim(SWARM, "b", "w", 60)).status == "yielded", "it is queued anew"


async def test_what_stands_still_is_sent_again_at_doubling_intervals_once_for_all(store: Store) -> None:
    await opened(store, "a")
    assert await store.control.nudge(SWARM, ["x", "y"], 0.1, 100) == ["x", "y"]
    assert await store.control.nudge(SWARM, ["x", "z"], 0.1, 100) == ["z"]

    async def due() -> bool:
        return list(await store.control.nudge(SWARM, ["x"], 0.1, 100)) == ["x"]

    await until(due)
    first = await store.now()
    await until(due)
    assert await store.now() - first > 0.15  # the second interval is of 0.2 s
    assert await store.control.nudge(SWARM, [], 0.1, 100) == ()
