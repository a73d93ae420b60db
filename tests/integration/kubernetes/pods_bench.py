"""What tests of pods share: a double, and pods whose agent is a shell command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from kubernetes_double import KubernetesDouble

from swarmq.kubernetes.cluster import Cluster
from swarmq.kubernetes.ends import PodEnd
from swarmq.kubernetes.patience import Patience
from swarmq.kubernetes.pods import Pods
from swarmq.kubernetes.podspec import PodDefaults, PodRequest
from swarmq.kubernetes.run import PodRun
from swarmq.kubernetes.telling import Notice
from swarmq.models.pods import PodNews
from swarmq.settings import load_settings

IMPATIENT = Patience(
    retry_seconds=20,
    quota_seconds=0.1,
    start_failure_seconds=0.5,
    events_seconds=0.1,
    deletion_seconds=0.3,
    quiet_log_seconds=0.5,
    last_news_seconds=0.3,
    quiet_watch_seconds=1.0,
    watch_seconds=2,
    poll_seconds=0.1,
)
HANG_SECONDS = 60.0
"""Far above what anything here takes."""
IMAGE = "registry.example/swarmq:1"


class Bench:
    """One worker process's half of pod mode. Several of them are several workers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._all: list[Pods] = []

    def pods(self, command: str, *, start_seconds: float = 30.0, **spec: Any) -> Pods:
        """Pods whose agents run that, with ``sh -ec``."""
        agent = {"name": "agent", "command": ["sh", "-ec", command]}
        template = {"spec": {"containers": [agent], "terminationGracePeriodSeconds": 1, **spec}}
        pods = Pods(self.cluster, PodDefaults(IMAGE, template, start_seconds=start_seconds))
        self._all.append(pods)
        return pods

    async def aclose(self) -> None:
        for pods in self._all:
            await pods.aclose()
        await self.cluster.aclose()


@asynccontextmanager
async def open_bench(double: KubernetesDouble, patience: Patience = IMPATIENT) -> AsyncIterator[Bench]:
    bench = Bench(await Cluster.open(load_settings(kubeconfig=double.kubeconfig), patience))
    try:
        yield bench
    finally:
        await bench.aclose()


def request(branch: str = "fix", **changes: Any) -> PodRequest:
    first = PodRequest("swarm-1", "fix", branch, 0, 1, b"the payload", deadline_seconds=60, nonce="n0nce")
    return replace(first, **changes)


async def run_to_end(pods: Pods, wanted: PodRequest, notice: Notice | None = None) -> tuple[list[str], PodEnd]:
    async with asyncio.timeout(HANG_SECONDS), await pods.run(wanted, notice) as run:
        lines = [line async for line in run.lines()]
        return lines, await run.end()


async def first_line(run: PodRun) -> str:
    async with asyncio.timeout(HANG_SECONDS):
        async for line in run.lines():
            return line
    raise AssertionError("the pod's log ended before its first line")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something outside of this loop."""
    async with asyncio.timeout(HANG_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


class Notices(list[str]):
    """What was told, to be given as ``notice``."""

    def __init__(self) -> None:
        super().__init__()
        self.news: list[PodNews] = []

    @property
    def hear(self) -> Notice:
        async def hear(news: PodNews) -> None:
            self.append(news.text)
            self.news.append(news)

        return hear
