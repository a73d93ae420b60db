"""What the tasks of one worker process share: store, models, dispatcher. One for each event loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.pod_access import PodAccess
from swarmq.kubernetes.cluster import Cluster
from swarmq.kubernetes.patience import Patience
from swarmq.kubernetes.worker_pods import WorkerPods
from swarmq.models.pods import NoPods, PodStates
from swarmq.providers.registry import Models
from swarmq.settings import Settings
from swarmq.store.connection import Gate
from swarmq.store.store import Store

HASTY = Patience(retry_seconds=3.0)
"""A tick waits no longer for the API of Kubernetes: what it does not learn now it learns in the next one."""


@dataclass(frozen=True)
class Runtime:
    """Passed to every task's coroutine; nothing of it is global."""

    settings: Settings
    store: Store
    models: Models
    dispatch: Dispatcher
    worker: str
    pods: PodStates = field(default_factory=NoPods)
    pod_access: PodAccess = field(init=False)
    verify_slots: asyncio.Semaphore = field(init=False)
    """Test suites would share the processors: all at once, each might miss its time limit."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pod_access", PodAccess(self.settings))
        slots = self.settings.verify_concurrency or (os.cpu_count() or 1)
        object.__setattr__(self, "verify_slots", asyncio.Semaphore(slots))

    async def aclose(self) -> None:
        if isinstance(self.pods, WorkerPods):
            await self.pods.aclose()
        await self.pod_access.aclose()
        await self.models.aclose()
        await self.store.limiter.aclose()
        await self.store.pods.aclose()
        await self.store.gate.aclose()


def _own_pods(settings: Settings) -> PodStates:
    """The pods of this fleet, where this process runs in one of them; nothing is asked yet."""
    if settings.pod() is None:
        return NoPods()
    here = settings.model_copy(update={"kubernetes_namespace": settings.pod_namespace})
    return WorkerPods(lambda: Cluster.open(here, HASTY))


class Runtimes:
    """Opens a process's runtime on first use and closes it with its loop."""

    def __init__(self, app: Celery, settings: Settings, url: str) -> None:
        self._app, self._settings, self._url = app, settings, url
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()

    async def get(self, worker: str) -> Runtime:
        """The runtime of the running loop. ``worker`` names this process in leases and events."""
        loop = asyncio.get_running_loop()
        runtime = self._open.get(loop)
        if runtime is None:
            settings = self._settings
            gate = Gate.open(
                self._url,
                retry_seconds=settings.redis_retry_seconds,
                max_connections=settings.redis_max_connections,
                patient=True,
            )
            store = Store(gate)
            models = Models(settings, limiter=store.limiter)
            runtime = Runtime(
                settings, store, models, Dispatcher(self._app, store.swarms.placement), worker, _own_pods(settings)
            )
            self._open[loop] = runtime
        return runtime

    def close_with(self, background: Any) -> None:
        """Have a BackgroundLoop close its runtime when it stops."""

        async def close() -> None:
            runtime = self._open.pop(asyncio.get_running_loop(), None)
            if runtime is not None:
                await runtime.aclose()

        background.at_stop.append(close)
