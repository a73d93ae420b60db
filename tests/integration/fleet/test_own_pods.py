"""A branch whose worker's pod is dead goes to another worker at once, and nothing is held against its agent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from swarmq.errors import LeaseLost
from swarmq.fleet.own_pods import take_from_dead
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchSpec, BranchState, Exit, Outcome
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.pods import PodHealth
from swarmq.models.swarm import SwarmSpec, SwarmState
from swarmq.settings import load_settings
from swarmq.store.branches import Claim
from swarmq.store.store import Store

SWARM = "swarm00001"
NAMES = ("a", "b")
DEAD = PodHealth(score=0, signals=3, reason="OOMKilled", dead=True)
ILL = PodHealth(score=0.4, signals=2, reason="Error")


class Sent:
    """A dispatcher that keeps the branches that would be published."""

    def __init__(self) -> None:
        self.branches_sent: list[str] = []

    async def branches(self, _: str, branch_ids: Collection[str]) -> None:
        self.branches_sent += branch_ids

    def __getattr__(self, name: str) -> Any:
        async def send(*_: Any, **__: Any) -> None:
            return

        return send


class Pods:
    """What the cluster says, by worker."""

    def __init__(self, **health: PodHealth) -> None:
        self.health, self.asked = health, 0

    async def health_of(self, workers: Collection[str]) -> Mapping[str, PodHealth]:
        self.asked += 1
        return {worker: found for worker, found in self.health.items() if worker in workers}


async def running(store: Store) -> dict[str, Claim]:
    """A swarm whose two branches run on workers of their own, for a long time yet."""
    options = SwarmOptions()
    await store.swarms.create(SwarmSpec(id=SWARM, task="t", options=options, created_at=1, celery_task_id=""))
    plan = Plan(subtasks=tuple(Subtask(name=name, instruction="do", kind=Kind.READ) for name in NAMES))
    await store.swarms.set_plan(SWARM, plan)
    await store.swarms.set_state(SWARM, SwarmState.RUNNING)
    specs = [
        BranchSpec(swarm_id=SWARM, id=name, subtask_id=name, stage=0, kind=Kind.READ, celery_task_id=f"{SWARM}.{name}")
        for name in NAMES
    ]
    await store.stages.open(SWARM, 0, specs, 100)
    return {name: await store.branches.claim(SWARM, name, f"w{name}", 3600) for name in NAMES}


def runtime_with(store: Store, pods: Pods, sent: Sent, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path)
    return Runtime(settings, store, None, sent, "control", pods)  # type: ignore[arg-type]


async def test_a_dead_pods_branch_goes_to_another_worker(store: Store, tmp_path: Path) -> None:
    claims, sent = await running(store), Sent()
    pods = Pods(wa=DEAD, wb=ILL)
    await reconcile(runtime_with(store, pods, sent, tmp_path))
    assert pods.asked == 1
    assert set(sent.branches_sent) == {"a"}
    again = await store.branches.claim(SWARM, "a", "w3", 60)
    assert (again.status, again.token, again.deliveries, again.lost_worker) == ("claimed", 2, 1, "wa")
    with pytest.raises(LeaseLost):  # should it not be dead after all
        await store.branches.finish(SWARM, "a", claims["a"].token, Outcome(exit=Exit.COMPLETED))
    other = await store.branches.load(SWARM, "b")
    assert (other.token, other.state) == (1, BranchState.RUNNING)
    assert other.lease_until > await store.now() + 1000


async def test_a_branch_that_moved_meanwhile_keeps_its_new_holder(store: Store) -> None:
    claims = await running(store)
    await store.branches.release(SWARM, "a", claims["a"].token)
    second = await store.branches.claim(SWARM, "a", "w3", 3600)
    assert await store.branches.lapse(SWARM, "a", claims["a"].token) is None
    assert (await store.branches.load(SWARM, "a")).lease_until > await store.now() + 1000
    ended = await store.branches.lapse(SWARM, "a", second.token)
    assert ended is not None
    assert ended == await store.branches.lapse(SWARM, "a", second.token)  # repeated, it is over for as long


async def test_nothing_is_asked_where_nothing_runs(store: Store, tmp_path: Path) -> None:
    claims, pods = await running(store), Pods(wa=DEAD, wb=DEAD)
    await asyncio.gather(*(store.branches.release(SWARM, name, claims[name].token) for name in NAMES))
    await reconcile(runtime_with(store, pods, Sent(), tmp_path))
    assert pods.asked == 0


async def test_a_container_that_was_started_again_has_lost_its_branches(store: Store, tmp_path: Path) -> None:
    """Also where the pod was never seen to be ill. A word of the old process says that both live."""
    await running(store)
    old, new, sent = "agents-7@pod-1.swarms.pod", "agents-9@pod-1.swarms.pod", Sent()
    for name in NAMES:
        first = await store.branches.load(SWARM, name)
        await store.branches.release(SWARM, name, first.token)
    await store.branches.claim(SWARM, "a", old, 3600)
    await store.branches.claim(SWARM, "b", "agents-7@pod-2.swarms.pod", 3600)
    runtime = runtime_with(store, Pods(), sent, tmp_path)
    for name in (old, new):
        await store.workers.announce({"name": name, "running": 1}, 3600)
    await reconcile(runtime)
    assert sent.branches_sent == []
    await store.workers.withdraw(old)
    await take_from_dead(runtime, [await store.branches.load(SWARM, name) for name in NAMES], await store.now())
    leases = [(await store.branches.load(SWARM, name)).lease_until for name in NAMES]
    now = await store.now()
    assert leases[0] <= now
    assert leases[1] > now + 1000, "of pod-2 nothing is known"
