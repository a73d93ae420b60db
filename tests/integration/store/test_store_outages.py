"""Redis goes away: killed, frozen, cut off. What was acknowledged stays, and nothing happens twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from lossy_relay import lossy_relay
from store_samples import DONE, SWARM, event, opened, record, until
from valkey_server import ValkeyServer

from swarmq.errors import StoreError
from swarmq.models.events import EventType
from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.store import Store

BRANCHES = [f"b{n}" for n in range(8)]
STEPS = 60


@pytest.fixture
async def store(own_valkey: ValkeyServer) -> AsyncIterator[Store]:
    gate = Gate(parse_address(own_valkey.url()), retry_seconds=30, max_connections=8, reply_seconds=0.3)
    yield Store(gate)
    await gate.aclose()


async def run_branch(store: Store, branch_id: str, written: list[int]) -> bool:
    """A branch's life: claim, steps, shared result, end. Returns whether it was told to finish the stage."""
    claim = await store.branches.claim(SWARM, branch_id, f"worker of {branch_id}", 60)
    assert claim.status == "claimed"
    assert claim.token == 1
    for step in range(STEPS):
        recorded = await record(store, branch_id, claim.token, step, f"step {step}", steps=1, reserve=True)
        assert recorded.limit is None
        written.append(step)
    await store.swarms.add(SWARM, retries=1)
    await store.events.emit(SWARM, event(branch=branch_id))
    await store.shared.publish(SWARM, branch_id, branch_id, STEPS)
    return (await store.branches.finish(SWARM, branch_id, claim.token, DONE)).advance


async def check_nothing_is_lost_or_doubled(store: Store) -> None:
    for branch_id in BRANCHES:
        entries = await store.transcripts.load(SWARM, branch_id)
        assert [entry.message.text for entry in entries] == [f"step {step}" for step in range(STEPS)]
    counters = await store.swarms.counters(SWARM)
    assert counters["steps"] == counters["output_tokens"] == STEPS * len(BRANCHES)
    assert counters["reserved_steps"] == STEPS * len(BRANCHES)
    assert counters["retries"] == len(BRANCHES)
    events = await store.events.read(SWARM, count=1000)
    assert sorted(told.data["branch"] for told in events if told.type is EventType.BRANCH_MESSAGE) == BRANCHES
    news = await store.gate.call("XRANGE", keys.SHARED_NEWS(SWARM), "-", "+")
    assert sorted(entry[1].decode() for _, entry in news) == BRANCHES
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.done_ids) == ("advancing", frozenset(BRANCHES))


async def under(store: Store, trouble: AsyncIterator[None]) -> None:
    """All branches at once while trouble comes again and again, at least three times."""
    await opened(store, *BRANCHES)
    progress: list[int] = []
    running = asyncio.gather(*(run_branch(store, branch_id, progress) for branch_id in BRANCHES))
    times = 0
    while not running.done():
        seen = len(progress)

        async def moved(seen: int = seen) -> bool:
            return running.done() or len(progress) > seen + 40

        await until(moved, 30)
        if not running.done():
            await anext(trouble)
            times += 1
    assert times >= 3
    assert sum(await running) == 1  # exactly one of them was told to finish the stage
    await check_nothing_is_lost_or_doubled(store)


async def test_a_server_that_is_killed_and_started_again_loses_nothing(store: Store, own_valkey: ValkeyServer) -> None:
    async def killed() -> AsyncIterator[None]:
        while True:
            own_valkey.kill()
            own_valkey.launch()
            yield

    await under(store, killed())


async def test_cut_connections_lose_nothing(store: Store, own_valkey: ValkeyServer) -> None:
    async def cut() -> AsyncIterator[None]:
        with own_valkey.client() as client:
            while True:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                yield

    await under(store, cut())


async def test_a_frozen_server_loses_nothing(store: Store, own_valkey: ValkeyServer) -> None:
    """It executes what it had received when it wakes up, after the callers have given up on that connection."""

    async def frozen() -> AsyncIterator[None]:
        while True:
            own_valkey.freeze()
            failed = asyncio.create_task(_line_fails(store.gate))
            await failed
            own_valkey.thaw()
            yield

    await under(store, frozen())


async def test_lost_replies_over_tcp_lose_and_double_nothing(own_valkey: ValkeyServer) -> None:
    async with lossy_relay(own_valkey.socket, loss=0.05) as (relay, port):
        gate = Gate.open(f"redis://:{own_valkey.password}@127.0.0.1:{port}/3", retry_seconds=30)
        store = Store(gate)
        await opened(store, *BRANCHES)
        ends = await asyncio.gather(*(run_branch(store, branch_id, []) for branch_id in BRANCHES))
        assert relay.lost >= 10
        assert sum(ends) == 1
        relay.loss = 0
        await check_nothing_is_lost_or_doubled(store)
        await gate.aclose()


async def _line_fails(gate: Gate) -> None:
    line = await gate._main.line()

    async def fails() -> bool:
        return line.failure is not None

    await until(fails)


async def test_a_server_that_stays_away_is_told_in_one_line(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=0.5)
    await gate.call("SET", "a", 1)
    own_valkey.kill()
    started = time.monotonic()
    calls = [gate.call("GET", "a"), gate.batch([("GET", "a")]), gate.script("cache_stats", ("r", "a", "s"), ())]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, StoreError)
        assert "\n" not in str(outcome)
        assert str(outcome).startswith(f"Redis at unix://{own_valkey.socket} does not answer for 0.5 s (")
        assert own_valkey.password not in str(outcome)
    assert 0.4 < time.monotonic() - started < 2
    own_valkey.start()
    assert await gate.call("GET", "a") == b"1"  # the same gate finds the way back
    await gate.aclose()


async def test_a_frozen_server_is_given_up_in_time(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=0.5)
    await gate.call("SET", "a", 1)
    own_valkey.freeze()
    async with asyncio.timeout(3):
        with pytest.raises(StoreError, match="does not answer"):
            await gate.call("GET", "a")
    own_valkey.thaw()
    assert await gate.call("GET", "a") == b"1"
    await gate.aclose()


async def test_without_a_retry_window_the_first_failure_is_told(own_valkey: ValkeyServer) -> None:
    own_valkey.kill()
    gate = Gate.open(own_valkey.url(), retry_seconds=0)
    async with asyncio.timeout(1):
        with pytest.raises(StoreError, match=r"does not answer \("):
            await gate.call("GET", "a")
    await gate.aclose()


async def test_hundreds_of_callers_get_through_an_outage(store: Store, own_valkey: ValkeyServer) -> None:
    await store.gate.call("SET", "n", 0)
    own_valkey.kill()
    waiting = [asyncio.create_task(store.gate.call("INCR", "n")) for _ in range(500)]
    await asyncio.sleep(0)
    own_valkey.start()
    assert sorted(await asyncio.gather(*waiting)) == list(range(1, 501))


async def test_waiting_for_a_result_survives_a_restart(store: Store, own_valkey: ValkeyServer) -> None:
    await opened(store, "a")
    waiting = asyncio.create_task(store.shared.wait_for(SWARM, "key", 60))

    async def subscribed() -> bool:
        return bool((await store.gate.call("PUBSUB", "NUMSUB", keys.SHARED_CHANNEL % SWARM))[1])

    await until(subscribed)
    own_valkey.kill()
    own_valkey.start()
    await until(subscribed)  # again, on a new connection
    await store.shared.publish(SWARM, "key", "a", 1)
    found = await asyncio.wait_for(waiting, 3)
    assert found is not None
    assert found.value == 1


async def test_following_events_survives_a_restart(store: Store, own_valkey: ValkeyServer) -> None:
    await opened(store, "a")
    following = store.events.follow(SWARM)
    async with contextlib.aclosing(following):
        seen = [await anext(following)]
        own_valkey.kill()
        own_valkey.start()
        await store.events.emit(SWARM, event(n=1))
        while seen[-1].type is not EventType.BRANCH_MESSAGE:
            seen.append(await anext(following))
    types = [found.type for found in seen]
    assert types.count(EventType.SWARM_STARTED) == 1
    assert types[-1] is EventType.BRANCH_MESSAGE
