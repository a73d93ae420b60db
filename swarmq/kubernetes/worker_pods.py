"""The pods that workers run in: how they do, and which of them to remove last when the fleet shrinks.

One list for all of them, kept for a few seconds, so that a tick costs one call whatever the number of swarms. Whoever
asks runs no agent's commands: the right to patch pods is the right to change any pod of the namespace.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import structlog

from swarmq.errors import SwarmqError
from swarmq.kubernetes.answers import NOT_FOUND, Refused
from swarmq.kubernetes.health import PodState, is_dead, read_worker, resource_health
from swarmq.models.pods import PodHealth

log = structlog.get_logger()

WORKERS = "app.kubernetes.io/name=swarmq"
"""The label that finds workers' pods; pods of pod mode have another name."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
KEPT_SECONDS = 4.0
"""A list is as good as new for so long, but for a pod that is not there or dead: it may have begun anew."""
NEWLY_SECONDS = 0.5
SILENT_SECONDS = 60.0
"""How long nothing is asked after a failure."""
PATCHES = 20
"""Most pods whose cost is changed in one go: the others have their turn in the next one."""
_NODE = re.compile(r".*@(?P<pod>.+)\.(?P<namespace>[^.@]+)\.pod")


class PodApi(Protocol):
    """What is used of ``Cluster``."""

    @property
    def namespace(self) -> str: ...

    async def list(self, resource: str, selector: str) -> dict[str, Any]: ...

    async def patch(self, resource: str, name: str, change: dict[str, Any]) -> dict[str, Any]: ...

    async def aclose(self) -> None: ...


def host_of(pod: str, namespace: str) -> str:
    """What stands behind the @ in the name of a worker that runs in that pod."""
    return f"{pod}.{namespace}.pod"


def pod_of(worker: str) -> tuple[str, str] | None:
    """Pod and namespace of a worker, by its name, so that it is known of one that is gone too."""
    found = _NODE.fullmatch(worker)
    return None if found is None else (found["pod"], found["namespace"])


def replaced(workers: Iterable[str], present: Collection[str]) -> set[str]:
    """Workers in pods that have fallen silent, while another process of the same name has begun in the same pod. Pure.

    A container that ran out of memory may run again before anybody has looked at its pod.
    """
    here = {_without_process(name) for name in present}
    return {
        name for name in workers if pod_of(name) is not None and name not in present and _without_process(name) in here
    }


def _without_process(worker: str) -> str:
    name, _, host = worker.partition("@")
    return f"{name.rpartition('-')[0]}@{host}"


def deletion_cost(running: int) -> int:
    """Grows with the branches that a worker runs, in few steps: each step is a call of the API. Pure."""
    return 10 * max(0, running).bit_length()


class WorkerPods:
    """Implements ``PodStates``. ``connect`` is called when pods are first asked for; its errors mean no answer."""

    def __init__(self, connect: Callable[[], Awaitable[PodApi]], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._clock = connect, clock
        self._api: PodApi | None = None
        self._pods: dict[str, dict[str, Any]] = {}
        self._listed_at = self._silent_until = self._no_patch_until = float("-inf")
        self._lock = asyncio.Lock()

    async def aclose(self) -> None:
        if self._api is not None:
            await self._api.aclose()

    async def health_of(self, workers: Collection[str]) -> Mapping[str, PodHealth]:
        """See ``PodStates``."""
        places = {worker: place for worker in workers if (place := pod_of(worker)) is not None}
        if not places or not await self._look({pod for pod, _ in places.values()}):
            return {}
        states = {
            worker: self._state(pod) for worker, (pod, namespace) in places.items() if namespace == self._namespace
        }
        return {
            worker: resource_health(state).model_copy(update={"seen_at": self._listed_at})
            for worker, state in states.items()
            if state is None or state.started
        }

    async def show_busy(self, running: Mapping[str, int]) -> int:
        """Have the pods of those workers, by how much each runs, removed in that order; returns how many were changed.

        Kubernetes takes the annotation as a wish: it is one more reason besides readiness, node and age.
        """
        places = {place[0]: count for worker, count in running.items() if (place := pod_of(worker)) is not None}
        if not places or not self._may_patch or not await self._look(set(places)):
            return 0
        wrong = [pod for pod, count in places.items() if pod in self._pods and self._cost(pod) != deletion_cost(count)]
        wrong.sort(key=lambda pod: abs(self._cost(pod) - deletion_cost(places[pod])), reverse=True)
        changed = 0
        for pod in wrong[:PATCHES]:
            if self._may_patch:
                changed += await self._patch(pod, deletion_cost(places[pod]))
        return changed

    @property
    def _may_patch(self) -> bool:
        return self._clock() >= self._no_patch_until

    @property
    def _namespace(self) -> str:
        return "" if self._api is None else self._api.namespace

    def _state(self, pod: str) -> PodState | None:
        return read_worker(self._pods[pod]) if pod in self._pods else None

    def _cost(self, pod: str) -> int:
        annotations = self._pods[pod]["metadata"].get("annotations") or {}
        text = str(annotations.get(DELETION_COST, "0"))
        return int(text) if re.fullmatch(r"-?\d+", text) else -1

    async def _look(self, wanted: Collection[str]) -> bool:
        """Whether there is a list to go by: one of this moment where a pod is missing in the last one."""
        async with self._lock:
            return await self._list(wanted)

    async def _list(self, wanted: Collection[str]) -> bool:
        now = self._clock()
        age = now - self._listed_at
        alive = all(state is not None and not is_dead(state) for state in map(self._state, wanted))
        if age < (KEPT_SECONDS if alive else NEWLY_SECONDS):
            return True
        if now < self._silent_until:
            return False
        try:
            if self._api is None:
                self._api = await self._connect()
            found = await self._api.list("pods", WORKERS)
        except SwarmqError as error:
            log.warning("the workers' pods are not known", error=str(error))
            self._silent_until = now + SILENT_SECONDS
            return False
        self._pods = {pod["metadata"]["name"]: pod for pod in found["items"]}
        self._listed_at = now
        return True

    async def _patch(self, pod: str, cost: int) -> bool:
        if self._api is None:
            return False
        try:
            change = {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
            self._pods[pod] = await self._api.patch("pods", pod, change)
        except Refused as refused:
            if refused.status != NOT_FOUND:  # the pod went meanwhile
                log.warning("the cost of removing a pod is not noted", pod=pod, error=str(refused))
            return False
        except SwarmqError as error:
            log.warning("the costs of removing pods are not noted", error=str(error))
            self._no_patch_until = self._clock() + SILENT_SECONDS
            return False
        return True
