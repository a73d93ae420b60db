"""The end of a swarm: all its keys expire, those too that are written late, and none is searched for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from store_samples import DONE, SWARM, branch_spec, event, opened, record, result, swarm_result, swarm_spec, until
from valkey_server import Valkey

from swarmq.models.swarm import MergeReport, SwarmState
from swarmq.store import keys
from swarmq.store.store import Store

DAY_SECONDS = 86_400


async def full_swarm(store: Store) -> None:
    """Every kind of key that a swarm may have."""
    await opened(store, "a", "b", "c", "d", max_subagents=2, keep_days=2.0, idempotency_key="nightly")
    for producer in ("producer", "told producer"):
        await store.swarms.add_canvas(SWARM, {"task_id": producer})
    await store.swarms.told(SWARM, "told producer")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    await record(store, "a", held.token, 0, "one", steps=1, reserve=True)
    await store.branches.finish(SWARM, "a", held.token, DONE)
    await store.stages.record_merge(SWARM, 0, "a", MergeReport(status="merged"))
    await store.stages.open(SWARM, 1, [branch_spec("e", 1)], 2)
    await store.jobs.claim(SWARM, "plan", "w", 60)
    await store.shared.publish(SWARM, "key", "a", [1], ["tag"])
    await store.audit.append(SWARM, "me", "did", {})
    await store.swarms.put_results(SWARM, {"a": result("a")})
    await store.swarms.add(SWARM, retries=1)


# What may still come when a swarm has ended; some of it makes keys that were not there at the end. Branch a runs.
LATE_WRITES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "told": lambda store: store.swarms.told(SWARM, "producer"),
    "canvas": lambda store: store.swarms.add_canvas(SWARM, {"task_id": "late producer"}),
    "counters": lambda store: store.swarms.add(SWARM, retries=1),
    "job": lambda store: store.jobs.claim(SWARM, "finish_swarm", "w", 60),
    "shared": lambda store: store.shared.publish(SWARM, "late", "a", 1),
    "audit": lambda store: store.audit.append(SWARM, "me", "did", {}),
    "event": lambda store: store.events.emit(SWARM, event()),
    "claim": lambda store: store.branches.claim(SWARM, "b", "w", 60),
    "cancel": lambda store: store.branches.cancel(SWARM, "b", "late"),
    "record": lambda store: record(store, "a", 1, 0, "late", steps=1, reserve=True),
    "finish": lambda store: store.branches.finish(SWARM, "a", 1, DONE),
}


def swarm_keys(valkey: Valkey) -> dict[str, int]:
    """All keys of the database that are one swarm's, with their time to live in seconds."""
    lasting = {key.name for key in keys.REGISTRY if key.scope == "fleet" and key.ttl != keys.KEPT}
    with valkey.server.client(valkey.database) as client:
        names = [name.decode() for name in client.keys("*")]
        return {name: client.ttl(name) for name in names if name not in lasting and ":once:" not in name}


async def test_all_keys_of_an_ended_swarm_expire(store: Store, valkey: Valkey) -> None:
    await full_swarm(store)
    assert set(swarm_keys(valkey).values()) == {-1}  # nothing expires before the end
    await store.swarms.finish(SWARM, swarm_result())
    at_the_end = swarm_keys(valkey)
    await store.swarms.add_canvas(SWARM, {"task_id": "late producer"})
    lives = swarm_keys(valkey)
    assert len(lives) == len(at_the_end) + 1
    assert all(2 * DAY_SECONDS - 60 < life <= 2 * DAY_SECONDS + 1 for life in lives.values()), lives


async def test_a_small_swarm_ends_and_expires_too(store: Store, valkey: Valkey) -> None:
    await store.swarms.create(swarm_spec(keep_days=1e-8))
    await store.swarms.finish(SWARM, swarm_result(SwarmState.FAILED))

    async def gone() -> bool:
        return not swarm_keys(valkey)

    await until(gone)
    assert await store.swarms.list(5) == []


@pytest.mark.parametrize("name", LATE_WRITES)
async def test_what_is_written_late_expires_too(store: Store, valkey: Valkey, name: str) -> None:
    await opened(store, "a", "b", keep_days=2.0)
    assert (await store.branches.claim(SWARM, "a", "w", 60)).token == 1
    await store.swarms.finish(SWARM, swarm_result())
    with valkey.server.client(valkey.database) as client:
        client.delete(keys.EVENTS(SWARM))  # so that each write that tells something has to make the stream again
    await LATE_WRITES[name](store)
    assert -1 not in swarm_keys(valkey).values()


async def test_no_stage_of_an_ended_swarm_is_opened(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    await store.swarms.finish(SWARM, swarm_result())
    assert await store.stages.open(SWARM, 1, [branch_spec("e", 1)], 2) == []
    assert await store.stages.load(SWARM, 1) is None


async def test_deleting_leaves_nothing(store: Store, valkey: Valkey) -> None:
    await full_swarm(store)
    await store.swarms.delete(SWARM)
    assert swarm_keys(valkey) == {}
    assert await store.swarms.active() == []
    assert await store.swarms.list(5) == []


async def test_every_key_has_the_type_that_the_registry_says(store: Store, valkey: Valkey) -> None:
    await full_swarm(store)
    await store.workers.announce({"name": "w"}, 60)
    await store.cache.stats()
    with valkey.server.client(valkey.database) as client:
        for raw in client.keys("*"):
            name, found = raw.decode(), client.type(raw).decode()
            fitting = [key for key in keys.REGISTRY if _fits(key.name, name)]
            assert [key.type for key in fitting] == [found], name


def _fits(pattern: str, name: str) -> bool:
    """Whether a key's name is of that family: ``%s`` stands for one part without a colon."""
    wanted, given = pattern.split(":"), name.split(":")
    parts = zip(wanted, given, strict=False)
    return len(wanted) == len(given) and all(want == have or "%s" in want for want, have in parts)
