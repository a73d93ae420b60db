"""The result cache, the audit trail and the list of workers."""

from __future__ import annotations

import pytest
from store_samples import SWARM, swarm_spec, until

from swarmq.errors import SchemaError
from swarmq.models.messages import Usage
from swarmq.models.swarm import Baseline
from swarmq.store import keys
from swarmq.store.cache import Cache, CachedResult
from swarmq.store.store import Store

DAY_SECONDS = 86_400
NOTHING_ELSE = {"waits": 0, "evictions": 0, "expirations": 0}


def cached(text: str = "done") -> CachedResult:
    return CachedResult(
        text=text, commit="c0ffee", files=("a.py",), steps=3, usage=Usage(input_tokens=5), source="swarm/branch"
    )


async def test_hits_and_misses_are_counted(store: Store) -> None:
    assert await store.cache.get("one") is None
    assert await store.cache.put("one", cached())
    assert await store.cache.get("one") == cached()
    stats = await store.cache.stats()
    raw = await store.gate.call("HGET", keys.CACHE(), "one")
    assert stats == {"entries": 1, "bytes": len(raw), "hits": 1, "misses": 1} | NOTHING_ELSE


async def test_a_newer_result_replaces_the_older_one(store: Store) -> None:
    for text in ("first " * 50, "second"):
        await store.cache.put("one", cached(text))
    found = await store.cache.get("one")
    assert found is not None
    assert found.text == "second"
    raw = await store.gate.call("HGET", keys.CACHE(), "one")
    stats = await store.cache.stats()
    assert (stats["entries"], stats["bytes"]) == (1, len(raw))


async def test_the_oldest_leaves_when_there_are_too_many(store: Store) -> None:
    small = Cache(store.gate, max_entries=3)
    for n in range(5):
        await small.put(f"key{n}", cached())
        await small.get("key0")  # being used does not make a result younger
    assert [bool(await small.get(f"key{n}")) for n in range(5)] == [False, False, True, True, True]
    stats = await small.stats()
    assert (stats["entries"], stats["evictions"]) == (3, 2)


async def test_the_oldest_leaves_when_there_are_too_many_bytes(store: Store) -> None:
    small = Cache(store.gate, max_bytes=2_000)
    for n in range(4):
        assert await small.put(f"key{n}", cached("x" * 600))
    assert not await small.put("huge", cached("x" * 2_000))
    stats = await small.stats()
    assert (stats["entries"], stats["evictions"]) == (2, 2)
    assert 0 < stats["bytes"] <= 2_000
    assert await small.get("key3") is not None


async def test_results_live_for_a_day(store: Store) -> None:
    for name in ("old", "older", "young"):
        await store.cache.put(name, cached())
    yesterday = await store.now() - DAY_SECONDS
    await store.gate.call(
        "ZADD", keys.CACHE_AGES(), yesterday - 1, "old", yesterday - 2, "older", yesterday + 60, "young"
    )
    assert await store.cache.get("old") is None
    assert await store.cache.get("young") is not None
    stats = await store.cache.stats()
    assert (stats["entries"], stats["expirations"], stats["misses"]) == (1, 2, 1)


async def test_clearing_drops_all_and_keeps_the_counters(store: Store) -> None:
    for name in ("one", "two"):
        await store.cache.put(name, cached())
    await store.cache.get("one")
    assert await store.cache.clear() == 2
    assert await store.cache.clear() == 0
    stats = await store.cache.stats()
    assert (stats["entries"], stats["bytes"], stats["hits"]) == (0, 0, 1)
    assert await store.cache.get("one") is None


async def test_a_result_of_an_unknown_version_is_refused(store: Store) -> None:
    await store.cache.put("one", cached())
    await store.gate.call("HSET", keys.CACHE(), "one", b'{"v":2,"text":"x","source":"y"}')
    with pytest.raises(SchemaError, match="cached result one: v"):
        await store.cache.get("one")


async def test_baselines_are_replaced_and_do_not_stay_for_good(store: Store) -> None:
    assert await store.baselines.find("task") is None
    for swarm in ("older", "newer"):
        await store.baselines.keep("task", Baseline(swarm=swarm, steps=1, tokens=2, cost_usd=None, wall_seconds=3.0))
    found = await store.baselines.find("task")
    assert found is not None
    assert (found.swarm, found.cost_usd) == ("newer", None)
    assert 29 * DAY_SECONDS < await store.gate.call("TTL", keys.BASELINE("task")) <= 30 * DAY_SECONDS


async def test_the_audit_trail_is_kept_in_order(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    for n in range(3):
        await store.audit.append(SWARM, "collapse", "killed", {"branch": f"b{n}"})
    trail = await store.audit.read(SWARM)
    assert [(entry.actor, entry.action, entry.detail["branch"]) for entry in trail] == [
        ("collapse", "killed", f"b{n}") for n in range(3)
    ]
    assert all(entry.id for entry in trail)
    await store.gate.call("XADD", keys.AUDIT(SWARM), "*", "e", b'{"v":2,"at":1,"actor":"x","action":"y"}')
    with pytest.raises(SchemaError, match="audit entry"):
        await store.audit.read(SWARM)


async def test_workers_are_there_while_they_say_so(store: Store) -> None:
    assert await store.workers.list() == []
    await store.workers.announce({"name": "b@host", "pid": 1}, ttl_seconds=60)
    await store.workers.announce({"name": "a@host", "pid": 2}, ttl_seconds=0.02)

    async def one_left() -> bool:
        return len(await store.workers.list()) == 1

    await until(one_left)
    await store.workers.announce({"name": "a@host", "pid": 3}, ttl_seconds=60)
    assert [(worker["name"], worker["pid"]) for worker in await store.workers.list()] == [("a@host", 3), ("b@host", 1)]
