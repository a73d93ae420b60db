"""The fleet's pods: never more than the budget, in fair order, and nobody keeps a permit beyond his life."""

from __future__ import annotations

import asyncio

import pytest
from store_samples import until

from swarmq.errors import LeaseLost
from swarmq.store import keys, pod_budget
from swarmq.store.pod_budget import PodBudget, PodCounts
from swarmq.store.store import Store


async def acquire(
    store: Store, branch: str, *, swarm: str = "s1", token: int = 1, budget: int = 2
) -> pod_budget.PodPermit:
    async with asyncio.timeout(30):
        return await store.pods.acquire(swarm, branch, token, budget)


async def waits(store: Store, waiting: int) -> None:
    async def reached() -> bool:
        return (await store.pods.counts()).waiting == waiting

    await until(reached)


async def test_never_more_than_the_budget(store: Store) -> None:
    first, second = await acquire(store, "a"), await acquire(store, "b")
    third = asyncio.create_task(acquire(store, "c"))
    await waits(store, 1)
    assert await store.pods.counts() == PodCounts(held=2, waiting=1)
    await first.release()
    await first.release()
    permit = await third
    assert await store.pods.counts() == PodCounts(held=2, waiting=0)
    await second.release()
    await permit.release()
    assert await store.pods.counts() == PodCounts(held=0, waiting=0)
    await store.pods.aclose()


async def test_who_waits_is_told_once_and_rung_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_budget, "LOOK_SECONDS", 3600)
    first, told = await acquire(store, "a", budget=1), []

    async def on_wait(place: int) -> None:
        told.append(place)

    second = asyncio.create_task(store.pods.acquire("s1", "b", 1, 1, on_wait))
    await waits(store, 1)
    await first.release()
    async with asyncio.timeout(30):
        await second
    assert told == [1]
    await store.pods.aclose()


async def test_a_small_swarm_is_next_whatever_another_has_queued(store: Store) -> None:
    running, order = await acquire(store, "a", budget=1), []

    async def one(swarm: str, branch: str) -> None:
        permit = await acquire(store, branch, swarm=swarm, budget=1)
        order.append(swarm)
        await permit.release()

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(one("large", f"b{number}")))
        await waits(store, number + 1)
    tasks.append(asyncio.create_task(one("small", "only")))
    await waits(store, 6)
    await running.release()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    assert order.index("small") <= 1
    await store.pods.aclose()


async def test_the_next_holder_of_a_branch_takes_its_permit_over(store: Store) -> None:
    old = await acquire(store, "a", budget=1)
    new = await acquire(store, "a", token=2, budget=1)
    assert (await store.pods.counts()).held == 1
    await old.release()
    assert (await store.pods.counts()).held == 1, "who comes late gives nothing back that is not his"
    with pytest.raises(LeaseLost, match="the pod of s1/a has another holder"):
        await acquire(store, "a", token=1, budget=1)
    await new.release()
    assert (await store.pods.counts()).held == 0
    await store.pods.aclose()


async def test_the_permit_of_a_dead_process_comes_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_budget, "PERMIT_SECONDS", 0.1)
    monkeypatch.setattr(pod_budget, "LOOK_SECONDS", 0.05)
    await acquire(store, "a", budget=1)
    await store.pods.aclose()  # no renewal any more
    await acquire(store, "b", budget=1)
    await store.pods.aclose()


async def test_a_permit_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_budget, "KEEP_SECONDS", 0.02)
    permit = await acquire(store, "a", budget=1)

    async def renewed() -> bool:
        return await expiry(store) > first

    first = await expiry(store)
    await until(renewed)
    await permit.release()
    await store.pods.aclose()


async def test_permits_outlive_hours_in_which_nobody_asks_for_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_budget, "KEEP_SECONDS", 0.02)
    permit = await acquire(store, "a", budget=2)
    names = [key() for key in keys.PODS if await store.gate.call("EXISTS", key())]
    assert [await store.gate.call("TTL", name) for name in names] == [3600] * len(names)
    for name in names:
        await store.gate.call("EXPIRE", name, 60)  # most of the hour has passed

    async def kept() -> bool:
        return all([await store.gate.call("TTL", name) > 60 for name in names])

    await until(kept)
    await permit.release()
    await store.pods.aclose()


async def expiry(store: Store) -> float:
    return float(await store.gate.call("ZSCORE", keys.PODS[0](), "s1/a"))


async def test_whoever_gives_up_waiting_leaves_the_queue(store: Store) -> None:
    await acquire(store, "a", budget=1)
    waiting = asyncio.create_task(acquire(store, "b", budget=1))
    await waits(store, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await waits(store, 0)
    await store.pods.aclose()


async def test_a_hundred_branches_on_several_workers_share_eight_pods(store: Store) -> None:
    workers, running, most = [PodBudget(store.gate) for _ in range(4)], 0, 0

    async def branch(number: int) -> None:
        nonlocal running, most
        permit = await workers[number % 4].acquire(f"s{number % 3}", f"b{number}", 1, 8)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        await permit.release()

    async with asyncio.timeout(120):
        await asyncio.gather(*(branch(number) for number in range(100)))
    assert most <= 8
    assert await store.pods.counts() == PodCounts(0, 0)
    for worker in workers:
        await worker.aclose()
