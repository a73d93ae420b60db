"""Events: read from any id, followed to the end."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import SWARM, event, swarm_result, swarm_spec

from swarmq.errors import NotFoundError, SchemaError, UsageError
from swarmq.models.events import EventType
from swarmq.store import keys
from swarmq.store.store import Store


async def test_events_are_read_from_any_id(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    await store.events.emit(SWARM, *(event(n=n) for n in range(5)))
    everything = await store.events.read(SWARM)
    assert [found.data.get("n") for found in everything] == [None, 0, 1, 2, 3, 4]
    assert all(found.id for found in everything)
    assert await store.events.read(SWARM, everything[3].id) == everything[4:]
    assert await store.events.read(SWARM, everything[0].id, count=2) == everything[1:3]
    assert await store.events.read(SWARM, everything[-1].id) == []
    assert await store.events.read(SWARM, everything[-1].id, block_ms=5) == []
    for wrong in ("last", "$", "1-2-3"):
        with pytest.raises(UsageError, match="event id"):
            await store.events.read(SWARM, wrong)


async def test_a_blocked_read_wakes_up(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    last = (await store.events.read(SWARM))[-1].id
    reading = asyncio.create_task(store.events.read(SWARM, last, block_ms=30_000))
    await asyncio.sleep(0)
    await store.events.emit(SWARM, event(n=1))
    assert [found.data for found in await reading] == [{"n": 1}]


async def test_following_ends_with_the_swarm(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    seen: asyncio.Queue[EventType] = asyncio.Queue()

    async def follow() -> None:
        async for found in store.events.follow(SWARM):
            seen.put_nowait(found.type)

    following = asyncio.create_task(follow())
    assert await seen.get() is EventType.SWARM_STARTED
    await store.events.emit(SWARM, event())
    assert await seen.get() is EventType.BRANCH_MESSAGE
    await store.swarms.finish(SWARM, swarm_result())
    await following
    assert await seen.get() is EventType.SWARM_FINISHED


async def test_following_an_ended_swarm_ends_at_once(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    await store.swarms.finish(SWARM, swarm_result())
    types = [found.type async for found in store.events.follow(SWARM)]
    assert types == [EventType.SWARM_STARTED, EventType.SWARM_FINISHED]
    last = (await store.events.read(SWARM))[-1].id
    async with asyncio.timeout(2):
        assert [found async for found in store.events.follow(SWARM, last)] == []


async def test_following_a_swarm_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFoundError):
        await anext(aiter(store.events.follow("nowhere000")))


async def test_an_event_of_an_unknown_version_is_refused(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    newer = b'{"version":2,"type":"swarm.started","at":1,"swarm":"x"}'
    await store.gate.call("XADD", keys.EVENTS(SWARM), "*", "e", newer)
    with pytest.raises(SchemaError, match=r"event \d+-\d+: version"):
        await store.events.read(SWARM)
