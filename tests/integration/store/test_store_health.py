"""What the doctor reads: queues with their priorities, unacknowledged messages, beat's tick, unfinished swarms."""

from __future__ import annotations

import time

from store_samples import SWARM, opened
from valkey_server import ValkeyServer

from swarmq.store.connection import Gate
from swarmq.store.health import MOST_SWARMS, Tick
from swarmq.store.server import check
from swarmq.store.store import Store

QUEUES = ("swarmq.control", "swarmq.agents")


async def test_an_empty_fleet(store: Store) -> None:
    look = await store.health.look(QUEUES)
    assert (look.tick, look.unacked, look.oldest_unacked_at, look.swarms) == (None, 0, 0.0, [])
    assert look.waiting == {"swarmq.control": 0, "swarmq.agents": 0}
    assert abs(look.now - time.time()) < 5
    assert look.server.server == "valkey"


async def test_a_queue_is_as_long_as_the_lists_of_all_its_priorities(store: Store) -> None:
    for end, length in (("", 3), ("\x06\x163", 1), ("\x06\x169", 2)):
        await store.gate.call("LPUSH", f"swarmq.agents{end}", *range(length))
    await store.gate.call("HSET", "unacked", "tag-1", "x", "tag-2", "y")
    await store.gate.call("ZADD", "unacked_index", 1700.5, "tag-1", 1800, "tag-2")
    look = await store.health.look(QUEUES)
    assert look.waiting["swarmq.agents"] % 6 == 0  # twice as many where each command is executed twice
    assert (look.unacked, look.oldest_unacked_at) == (2, 1700.5)


async def test_the_tick_is_by_the_clock_of_redis(store: Store) -> None:
    before = await store.now()
    await store.health.ticked(10)
    tick = (await store.health.look(QUEUES)).tick
    assert isinstance(tick, Tick)
    assert before <= tick.at <= await store.now()
    assert tick.every_seconds == 10


async def test_unfinished_swarms_with_their_jobs(store: Store) -> None:
    await opened(store, "a", "b")
    claim = await store.jobs.claim(SWARM, "finish_stage:0", "w@h", 30)
    done = await store.jobs.claim(SWARM, "plan", "w@h", 30)
    await store.jobs.done(SWARM, "plan", done.token)
    (swarm,) = (await store.health.look(QUEUES)).swarms
    assert swarm.record.spec.id == SWARM
    assert [branch.spec.id for branch in swarm.branches] == ["a", "b"]
    assert swarm.stage is not None
    assert list(swarm.jobs) == ["finish_stage:0"]
    assert swarm.jobs["finish_stage:0"].worker == "w@h"
    assert swarm.jobs["finish_stage:0"].lease_until > await store.now()
    assert abs(swarm.last_event_at - await store.now()) < 5
    await store.jobs.release(SWARM, "finish_stage:0", claim.token)
    (swarm,) = (await store.health.look(QUEUES)).swarms
    assert swarm.jobs == {}


async def test_a_swarm_that_cannot_be_read_hides_no_other(store: Store) -> None:
    await opened(store, "a", "b")
    await store.gate.call("HSET", "swarmq:{strange}:swarm", "v", 99)
    await store.gate.call("SADD", "swarmq:active", "strange", "expired")
    look = await store.health.look(QUEUES)
    assert [swarm.record.spec.id for swarm in look.swarms] == [SWARM]
    assert "schema version 99" in look.unreadable["strange"]
    await store.gate.call("SADD", "swarmq:active", *(f"more{n}" for n in range(MOST_SWARMS)))
    assert (await store.health.look(QUEUES)).left_out == 3


async def test_a_look_changes_nothing(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=5)
    store = Store(gate)
    await opened(store, "a", "b")
    with own_valkey.client() as server:
        server.config_set("maxmemory", 1)  # a write would be refused
        look = await store.health.look(QUEUES)
        assert look.server.full
        assert (await check(own_valkey.url())).max_bytes == 1
    assert len(look.swarms) == 1
    await gate.aclose()
