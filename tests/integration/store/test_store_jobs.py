"""Named jobs: one live holder at a time."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import SWARM, swarm_spec, until

from swarmq.errors import LeaseLost
from swarmq.store.store import Store

JOB = "finish_stage:0"


async def test_one_worker_holds_a_job(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    assert not (await store.jobs.look(SWARM, JOB)).held
    claims = await asyncio.gather(*(store.jobs.claim(SWARM, JOB, f"w{n}", 60) for n in range(10)))
    assert sorted(claim.status for claim in claims) == ["claimed"] + ["held"] * 9
    assert (await store.jobs.look(SWARM, JOB)).held
    assert (await store.jobs.claim(SWARM, "finish_stage:1", "w", 60)).status == "claimed"


async def test_a_lost_job_is_taken_over_and_the_paused_holder_is_refused(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    old = await store.jobs.claim(SWARM, JOB, "w1", 0.001)

    async def free() -> bool:
        return not (await store.jobs.look(SWARM, JOB)).held

    await until(free)
    new = await store.jobs.claim(SWARM, JOB, "w2", 60)
    assert (new.status, new.token) == ("claimed", old.token + 1)
    with pytest.raises(LeaseLost, match=f"job {JOB}"):
        await store.jobs.renew(SWARM, JOB, old.token, 60)
    with pytest.raises(LeaseLost):
        await store.jobs.done(SWARM, JOB, old.token)
    await store.jobs.release(SWARM, JOB, old.token)
    assert (await store.jobs.look(SWARM, JOB)).held
    await store.jobs.renew(SWARM, JOB, new.token, 60)


async def test_a_released_job_is_free_at_once(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    first = await store.jobs.claim(SWARM, JOB, "w1", 60)
    await store.jobs.release(SWARM, JOB, first.token)
    assert not (await store.jobs.look(SWARM, JOB)).held
    with pytest.raises(LeaseLost):
        await store.jobs.renew(SWARM, JOB, first.token, 60)
    second = await store.jobs.claim(SWARM, JOB, "w2", 60)
    assert (second.status, second.token) == ("claimed", first.token + 1)


async def test_a_done_job_stays_done(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    held = await store.jobs.claim(SWARM, JOB, "w1", 60)
    await store.jobs.done(SWARM, JOB, held.token)
    await store.jobs.done(SWARM, JOB, held.token)
    assert (await store.jobs.claim(SWARM, JOB, "w2", 60)).status == "done"
    assert not (await store.jobs.look(SWARM, JOB)).held
    with pytest.raises(LeaseLost):
        await store.jobs.renew(SWARM, JOB, held.token, 60)


async def test_a_job_of_a_swarm_that_is_gone(store: Store) -> None:
    assert (await store.jobs.claim("nowhere000", JOB, "w", 60)).status == "missing"
    await store.jobs.release("nowhere000", JOB, 1)
    with pytest.raises(LeaseLost):
        await store.jobs.renew("nowhere000", JOB, 1, 60)
