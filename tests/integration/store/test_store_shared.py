"""Shared results: published and read whole, found by what is known of them, waited for without polling."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from store_samples import SWARM, opened, swarm_spec, until

from swarmq.errors import SchemaError, ToolError, UsageError
from swarmq.store import keys, shared
from swarmq.store.store import Store


async def published(store: Store, *names: str) -> None:
    await store.swarms.create(swarm_spec())
    for name in names:
        await store.shared.publish(SWARM, name, name.partition("/")[0], {"of": name}, ["all", name])


async def subscribed(store: Store) -> bool:
    return bool((await store.gate.call("PUBSUB", "NUMSUB", keys.SHARED_CHANNEL % SWARM))[1])


async def test_a_result_comes_back_as_it_was_published(store: Store) -> None:
    await published(store)
    value = {
        "files": ["a.py"],
        "count": 2,
        "ratio": 0.5,
        "ok": True,
        "none": None,
        "text": 'ü "quoted"\n',
        "big": 2**60,
    }
    await store.shared.publish(SWARM, "api/shape", "design", value, ["api", "stage:0"])
    found = await store.shared.get(SWARM, "api/shape")
    assert found is not None
    assert (found.key, found.producer, found.value, found.tags) == ("api/shape", "design", value, ("api", "stage:0"))
    assert found.schema["type"] == "object"
    assert found.schema["fields"]["files"] == "array"
    assert abs(found.published_at - await store.now()) < 60
    assert found.expires_at == 0
    assert await store.shared.get(SWARM, "unknown") is None


async def test_a_newer_value_replaces_the_older_one(store: Store) -> None:
    await published(store)
    for value in ("long " * 100, "short"):
        await store.shared.publish(SWARM, "key", "a", value)
    assert [(found.key, found.value) for found in await store.shared.list(SWARM)] == [("key", "short")]
    raw = await store.gate.call("HGET", keys.SHARED(SWARM), "key")
    assert (await store.swarms.counters(SWARM))["shared_bytes"] == len(raw)


async def test_results_are_found_by_tag_prefix_and_producer(store: Store) -> None:
    await published(store, "b/one", "a/one", "a/two")

    def names(found: Any) -> list[str]:
        return [result.key for result in found]

    assert names(await store.shared.list(SWARM)) == ["a/one", "a/two", "b/one"]
    assert names(await store.shared.query_tags(SWARM, ["a/two", "b/one", "other"])) == ["a/two", "b/one"]
    assert names(await store.shared.query_tags(SWARM, [])) == []
    assert names(await store.shared.query_prefix(SWARM, "a/")) == ["a/one", "a/two"]
    assert names(await store.shared.by_producer(SWARM, "b")) == ["b/one"]


async def test_many_results_are_found_in_pages(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    names = [f"key{n:03}" for n in range(250)]
    await asyncio.gather(*(store.shared.publish(SWARM, name, "a", name) for name in names))
    assert [found.value for found in await store.shared.list(SWARM)] == names


async def test_an_expired_result_is_gone(store: Store) -> None:
    await published(store, "lasting")
    await store.shared.publish(SWARM, "brief", "a", 1, ["all"], ttl_seconds=0.02)

    async def gone() -> bool:
        return await store.shared.get(SWARM, "brief") is None

    await until(gone)
    assert [found.key for found in await store.shared.query_tags(SWARM, ["all"])] == ["lasting"]
    raw = await store.gate.call("HGET", keys.SHARED(SWARM), "lasting")
    assert (await store.swarms.counters(SWARM))["shared_bytes"] == len(raw)
    await store.shared.publish(SWARM, "kept", "a", 1, ttl_seconds=60)
    found = await store.shared.get(SWARM, "kept")
    assert found is not None
    assert 50 < found.expires_at - await store.now() <= 60


async def test_waiting_ends_with_the_publication(store: Store) -> None:
    await published(store)
    waiting = [asyncio.create_task(store.shared.wait_for(SWARM, f"key{n % 2}", 30)) for n in range(50)]
    await until(lambda: subscribed(store))
    for _ in range(20):  # the first ring, for the subscription itself, has been answered by then
        await store.gate.call("PING")
    for n in range(2):
        await store.shared.publish(SWARM, f"key{n}", "a", n)
    found = await asyncio.wait_for(asyncio.gather(*waiting), 3)  # well below the recheck: the doorbell rang
    assert [result.value for result in found if result is not None] == [0, 1] * 25


async def test_waiting_is_up_in_time_and_finds_what_is_there_already(store: Store) -> None:
    await published(store, "there")
    assert await store.shared.wait_for(SWARM, "missing", 0.02) is None
    assert await store.shared.wait_for(SWARM, "missing", 0) is None
    found = await store.shared.wait_for(SWARM, "there", 0)
    assert found is not None
    assert found.value == {"of": "there"}


async def test_new_results_are_told_by_pattern(store: Store) -> None:
    await published(store, "api/old")
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def subscribe() -> None:
        async for found in store.shared.subscribe(SWARM, "api/*"):
            seen.put_nowait(found.key)

    subscribing = asyncio.create_task(subscribe())
    await until(lambda: subscribed(store))
    names = [f"api/{n}" for n in range(150)]
    for name in ("other", *names):
        await store.shared.publish(SWARM, name, "a", 1)
    assert [await asyncio.wait_for(seen.get(), 5) for _ in names] == names
    subscribing.cancel()
    await asyncio.gather(subscribing, return_exceptions=True)
    assert seen.empty()

    async def hung_up() -> bool:
        return not await subscribed(store)

    await until(hung_up)


@pytest.mark.parametrize(
    ("key", "value", "tags", "ttl", "problem"),
    [
        ("", 1, [], None, "key: 1 to 200"),
        ("k" * 201, 1, [], None, "this one has 201"),
        ("k", 1, ["t"] * 33, None, "tags: at most 32"),
        ("k", 1, [""], None, "tags"),
        ("k", 1, [], 0, "ttl_seconds"),
        ("k", 1, [], float("nan"), "ttl_seconds"),
        ("k", "x" * 1_000_001, [], None, "value: 1,000,003 bytes"),
        ("k", {1, 2}, [], None, "value: .*set"),
        ("k", {"deep": [object()]}, [], None, "value: .*object"),
    ],
)
async def test_what_cannot_be_shared(
    store: Store, key: str, value: Any, tags: list[str], ttl: float | None, problem: str
) -> None:
    await published(store)
    with pytest.raises(UsageError, match=problem):
        await store.shared.publish(SWARM, key, "a", value, tags, ttl)
    assert await store.shared.list(SWARM) == []


async def test_a_swarm_cannot_fill_redis(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(store, "a")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    monkeypatch.setattr(shared, "MAX_SWARM_BYTES", 1000)
    bound = store.shared.bound(SWARM, "a", held.token)
    await bound.publish("one", "x" * 500)
    with pytest.raises(ToolError, match="would exceed 1000 bytes"):
        await bound.publish("two", "x" * 500)
    await bound.publish("one", "x" * 600)
    assert [found.key for found in await bound.list()] == ["one"]


async def test_a_branch_publishes_under_its_own_name(store: Store) -> None:
    await opened(store, "a")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    bound = store.shared.bound(SWARM, "a", held.token)
    await bound.publish("x/one", [1, "a"], ["t"])
    for found in (
        await bound.get("x/one"),
        await bound.wait_for("x/one", 1),
        *await bound.list(),
        *await bound.query_tags(["t"]),
        *await bound.query_prefix("x/"),
    ):
        assert found is not None
        assert (found.producer, found.value) == ("a", [1, "a"])
        assert found.schema == {"type": "array", "items": ["integer", "string"]}


async def test_a_result_of_an_unknown_version_is_refused(store: Store) -> None:
    await published(store, "key")
    await store.gate.call("HSET", keys.SHARED(SWARM), "key", b'{"v":2,"key":"key"}')
    with pytest.raises(SchemaError, match=r"shared result 'key' of swarm \w+: schema version 2"):
        await store.shared.get(SWARM, "key")
