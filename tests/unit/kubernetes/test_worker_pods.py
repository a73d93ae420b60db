from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import ClusterError
from swarmq.kubernetes.answers import Call, Refused
from swarmq.kubernetes.worker_pods import (
    DELETION_COST,
    KEPT_SECONDS,
    PATCHES,
    SILENT_SECONDS,
    WorkerPods,
    deletion_cost,
    host_of,
    pod_of,
)

RUNNING = {"name": "swarmq", "ready": True, "restartCount": 0, "state": {"running": {}}}
OOM = {"name": "swarmq", "ready": False, "restartCount": 1, "state": {"terminated": {"reason": "OOMKilled"}}}


def pod(
    name: str, *, cost: int | None = None, container: dict[str, Any] | None = None, phase: str = "Running"
) -> dict[str, Any]:
    annotations = {} if cost is None else {DELETION_COST: str(cost)}
    containers = [] if phase == "Pending" else [container or RUNNING]
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "swarmq"}]},
        "status": {"phase": phase, "containerStatuses": containers},
    }


class Api:
    """A cluster with these pods, which counts what it is asked."""

    namespace = "swarmq"

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = list(pods)
        self.lists = 0
        self.patches: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    async def connect(self) -> Api:
        return self

    async def list(self, resource: str, selector: str) -> dict[str, Any]:
        assert (resource, selector) == ("pods", "app.kubernetes.io/name=swarmq")
        self.lists += 1
        if self.failure is not None:
            raise self.failure
        return {"items": list(self.pods)}

    async def patch(self, resource: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.patches.append((name, change["metadata"]["annotations"][DELETION_COST]))
        return pod(name, cost=int(self.patches[-1][1]))

    async def aclose(self) -> None:
        return


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(name: str, namespace: str = "swarmq") -> str:
    return f"agents-3f9c1a@{host_of(name, namespace)}"


def made(*pods: dict[str, Any]) -> tuple[Api, Clock, WorkerPods]:
    api, clock = Api(*pods), Clock()
    return api, clock, WorkerPods(api.connect, clock)


labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.lists(labels, min_size=1, max_size=3).map(".".join), labels)
def test_a_workers_name_says_its_pod(name: str, namespace: str) -> None:
    assert pod_of(worker(name, namespace)) == (name, namespace)


def test_of_a_worker_outside_the_cluster_nothing_is_known() -> None:
    assert pod_of("agents-7@laptop.example.com") is None


async def test_one_list_tells_of_all_and_is_kept_for_a_tick() -> None:
    api, clock, pods = made(pod("a"), pod("b", container=OOM), pod("c", phase="Pending"))
    workers = [*map(worker, "abc"), worker("a", "elsewhere"), "agents-1@laptop"]
    health = await pods.health_of(workers)
    assert {name: (found.score, found.dead) for name, found in health.items()} == {
        worker("a"): (1.0, False),
        worker("b"): (0.0, True),
    }
    clock.now += KEPT_SECONDS / 2
    await pods.health_of([worker("a")])
    assert api.lists == 1
    clock.now += KEPT_SECONDS
    await pods.health_of([worker("a")])
    assert api.lists == 2


async def test_a_pod_is_missing_only_by_a_list_that_was_made_after_the_question() -> None:
    api, clock, pods = made(pod("a"))
    await pods.health_of([worker("a")])
    api.pods.append(pod("new"))
    clock.now += KEPT_SECONDS / 2
    assert (await pods.health_of([worker("new")]))[worker("new")].score == 1.0
    clock.now += KEPT_SECONDS / 2
    gone = (await pods.health_of([worker("gone")]))[worker("gone")]
    assert (gone.score, gone.signals, gone.dead) == (0.2, 1, True)


async def test_a_pod_that_was_dead_is_looked_at_again_before_anything_is_taken_from_it() -> None:
    """Its container may run again since the last list, and hold branches."""
    api, clock, pods = made(pod("a", container=OOM))
    assert (await pods.health_of([worker("a")]))[worker("a")].dead
    api.pods = [pod("a", container=RUNNING | {"restartCount": 1})]
    clock.now += KEPT_SECONDS / 2
    again = (await pods.health_of([worker("a")]))[worker("a")]
    assert (again.score, again.signals, again.dead) == (1.0, 0, False)
    clock.now += KEPT_SECONDS / 2
    await pods.health_of([worker("a")])
    assert api.lists == 2


async def test_a_list_that_fails_says_nothing_and_is_not_asked_for_again_at_once() -> None:
    api, clock, pods = made(pod("a"))
    api.failure = ClusterError("its role needs the verb list")
    assert await pods.health_of([worker("a")]) == {}
    clock.now += SILENT_SECONDS / 2
    assert await pods.health_of([worker("a")]) == {}
    assert api.lists == 1
    api.failure = None
    clock.now += SILENT_SECONDS
    assert await pods.health_of([worker("a")])


async def test_costs_are_patched_where_they_changed() -> None:
    api, _, pods = made(pod("idle"), pod("busy"), pod("same", cost=deletion_cost(5)))
    running = {worker("idle"): 0, worker("busy"): 40, worker("same"): 7, worker("gone"): 3, "agents-1@laptop": 9}
    assert await pods.show_busy(running) == 1
    assert api.patches == [("busy", str(deletion_cost(40)))]
    assert await pods.show_busy(running) == 0
    assert await pods.show_busy(running | {worker("busy"): 0}) == 1
    assert api.patches[-1] == ("busy", "0")


async def test_a_large_change_takes_several_ticks() -> None:
    names = [f"w{number}" for number in range(PATCHES + 5)]
    _, _, pods = made(*map(pod, names))
    running = {worker(name): 8 for name in names}
    assert [await pods.show_busy(running) for _ in range(3)] == [PATCHES, 5, 0]


@pytest.mark.parametrize(
    ("failure", "asked_again"),
    [
        (ClusterError("its role needs the verb patch"), False),
        (Refused(Call("patch", "pods", "a"), 404, "NotFound", "gone"), True),
        (Refused(Call("patch", "pods", "a"), 409, "Conflict", "changed"), True),
    ],
)
async def test_a_patch_that_is_refused_harms_nothing(failure: Exception, asked_again: bool) -> None:
    api, clock, pods = made(pod("a"), pod("b"))
    await pods.health_of([worker("a")])
    api.failure = failure
    assert await pods.show_busy({worker("a"): 3}) == 0
    api.failure = None
    assert await pods.show_busy({worker("a"): 3}) == int(asked_again)
    clock.now += SILENT_SECONDS
    assert await pods.show_busy({worker("a"): 300}) == 1, "what failed may have been an outage"


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_who_runs_more_costs_no_less_and_idle_ones_nothing(some: int, more: int) -> None:
    assert deletion_cost(0) == 0 < deletion_cost(some + 1)
    assert deletion_cost(some) <= deletion_cost(some + more)
