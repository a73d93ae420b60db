"""The figures for autoscalers are what the records say, whatever happened on the way."""

from __future__ import annotations

from store_samples import DONE, LEASE_SECONDS, SWARM, lease_over, opened, record, swarm_result, swarm_spec

from swarmq.models.swarm import SwarmState
from swarmq.store import keys
from swarmq.store.health import PRIORITY_LISTS
from swarmq.store.scaling import FleetLoad
from swarmq.store.store import Store

QUEUES = ["swarmq.control", "swarmq.agents"]


async def demand(store: Store) -> set[str]:
    """The set as KEDA counts it: by its type, then SCARD."""
    size = (await store.scaling.refresh())["agents"]
    assert await store.gate.call("TYPE", keys.DEMAND("agents")) in (b"set", b"none")
    assert await store.gate.call("SCARD", keys.DEMAND("agents")) == size
    return {raw.decode() for raw in await store.gate.call("SMEMBERS", keys.DEMAND("agents"))}


async def look(store: Store) -> FleetLoad:
    return await store.scaling.look(QUEUES)


async def steps_of_all(store: Store) -> float:
    load = await look(store)
    return load.ended.get("steps", 0) + sum(swarm.counters.get("steps", 0) for swarm in load.swarms)


async def test_demand_follows_branches_from_their_slot_to_their_end(store: Store) -> None:
    assert await demand(store) == set()
    await opened(store, "a", "b", "c", "d", max_subagents=2)
    await store.swarms.set_state(SWARM, SwarmState.RUNNING)
    assert await demand(store) == {f"{SWARM}/a", f"{SWARM}/b"}
    claim = await store.branches.claim(SWARM, "a", "w1", LEASE_SECONDS)
    (swarm,) = (await look(store)).swarms
    assert (swarm.slots, swarm.running, swarm.waiting) == (frozenset("ab"), frozenset("a"), 2)
    await store.branches.finish(SWARM, "a", claim.token, DONE)
    assert await demand(store) == {f"{SWARM}/b", f"{SWARM}/c"}
    await store.branches.cancel(SWARM, "b", "not wanted")
    assert await demand(store) == {f"{SWARM}/c", f"{SWARM}/d"}


async def test_a_worker_that_dies_leaves_its_branch_in_the_demand_once(store: Store) -> None:
    await opened(store, "a")
    await store.swarms.set_state(SWARM, SwarmState.RUNNING)
    await store.branches.claim(SWARM, "a", "w1", 0.001)
    await lease_over(store, "a")
    assert await demand(store) == {f"{SWARM}/a"}
    second = await store.branches.claim(SWARM, "a", "w2", LEASE_SECONDS)
    assert await demand(store) == {f"{SWARM}/a"}
    await store.branches.release(SWARM, "a", second.token)
    assert await demand(store) == {f"{SWARM}/a"}
    assert (await look(store)).swarms[0].running == frozenset()


async def test_of_a_paused_swarm_only_what_still_runs_counts(store: Store) -> None:
    await opened(store, "a", "b")
    await store.swarms.set_state(SWARM, SwarmState.RUNNING)
    await store.branches.claim(SWARM, "a", "w1", LEASE_SECONDS)
    await store.control.pause(SWARM, "lunch")
    assert await demand(store) == {f"{SWARM}/a"}
    await store.control.resume(SWARM)
    assert await demand(store) == {f"{SWARM}/a", f"{SWARM}/b"}


async def test_what_a_swarm_used_is_counted_once_before_and_after_its_end(store: Store) -> None:
    await opened(store, "a")
    claim = await store.branches.claim(SWARM, "a", "w1", LEASE_SECONDS)
    await record(store, "a", claim.token, 0, "one", steps=3)
    assert await steps_of_all(store) == 3
    await store.branches.finish(SWARM, "a", claim.token, DONE)
    for _ in range(2):
        await store.swarms.finish(SWARM, swarm_result())
        assert await steps_of_all(store) == 3
    load = await look(store)
    assert (load.ended["swarms:succeeded"], list(load.swarms)) == (1, [])
    await store.swarms.delete(SWARM)
    assert await steps_of_all(store) == 3


async def test_a_swarm_that_is_deleted_before_its_end_has_used_what_it_used(store: Store) -> None:
    await opened(store, "a")
    claim = await store.branches.claim(SWARM, "a", "w1", LEASE_SECONDS)
    await record(store, "a", claim.token, 0, "one", steps=3)
    await store.swarms.delete(SWARM)
    assert await steps_of_all(store) == 3
    assert await demand(store) == set()


async def test_messages_of_all_priorities_are_counted(store: Store) -> None:
    for end in PRIORITY_LISTS:
        await store.gate.call("DEL", f"swarmq.agents{end}")
        await store.gate.call("LPUSH", f"swarmq.agents{end}", "x")
    waiting = sum([await store.gate.call("LLEN", f"swarmq.agents{end}") for end in PRIORITY_LISTS])
    assert waiting >= 4
    assert (await look(store)).messages == {"swarmq.control": 0, "swarmq.agents": waiting}


async def test_a_large_fleet_takes_few_round_trips(store: Store) -> None:
    for number in range(30):
        await store.swarms.create(swarm_spec(f"swarm{number:05}"))
    assert len(await demand(store)) == 30  # each waits for its plan
    assert {swarm.state for swarm in (await look(store)).swarms} == {SwarmState.SUBMITTED}
