"""What is told of one pod: what it waits for, where it runs, what the cluster's components say of it, how it ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from swarmq.errors import ClusterError
from swarmq.kubernetes.cluster import Cluster, Object
from swarmq.kubernetes.ends import PodEnd, has_started, is_terminated, one_line, waits_for
from swarmq.kubernetes.health import read_pod
from swarmq.models.pods import PodNews

log = structlog.get_logger()

Notice = Callable[[PodNews], Awaitable[None]]

READ_SECONDS = 5.0
"""A pod's end does not wait longer for what else there is to say of it."""
MAX_EVENTS = 100
"""Asked for of one pod, which has a dozen."""
MAX_TOLD = 20
"""Of one pod: who reads them wants the first ones, and those that come often are counted."""


@dataclass(frozen=True)
class ClusterEvent:
    kind: str
    """Normal or Warning."""
    reason: str
    message: str
    count: int = 1
    """How often it has happened, as far as the cluster counts."""

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}: {self.message}".strip()


class PodTeller:
    """Tells ``notice`` each thing once."""

    def __init__(self, cluster: Cluster, pod: Object, notice: Notice | None) -> None:
        self._cluster, self._notice = cluster, notice
        self._name, self._uid = str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])
        self._standing = ""
        self._counts: dict[tuple[str, str], int] = {}
        """What was told of the cluster's events, and how often it had happened by then."""
        self._pause_seconds = cluster.patience.events_seconds
        self._read_at = asyncio.get_running_loop().time() + self._pause_seconds

    async def tell_standing(self, pod: Object) -> None:
        """What it waits for, or where it runs; nothing while that is as it was."""
        runs = has_started(pod) and not is_terminated(pod)
        text = f"runs on {pod['spec'].get('nodeName') or 'its node'}" if runs else waits_for(pod)
        if text and text != self._standing:
            await self._tell(pod, text, read_pod(pod).reason)
        self._standing = text

    async def tell_events_if_due(self, pod: Object) -> float:
        """For a pod that has not started: read the cluster's events now and then, each time after twice as long.
        Returns how many seconds are left until the next time.
        """
        if self._notice is None:
            return math.inf
        now = asyncio.get_running_loop().time
        if now() >= self._read_at:
            await self.tell_events(pod)
            self._pause_seconds *= 2
            self._read_at = now() + self._pause_seconds
        return self._read_at - now()

    async def tell_events(self, pod: Object) -> Sequence[ClusterEvent]:
        """Read them and tell those that are new, or that have come twice as often since. Returns all."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                events = await pod_events(self._cluster, self._name, self._uid)
        except TimeoutError:
            return ()
        for event in events:
            key = (event.reason, event.message)
            known = self._counts.get(key, 0)
            if event.count < 2 * known or (not known and len(self._counts) >= MAX_TOLD):
                continue
            self._counts[key] = event.count
            await self._tell(pod, str(event), event.reason, event.count)
        return events

    async def tell_end(self, pod: Object, end: PodEnd) -> None:
        await self._tell(pod, f"ended: {end.detail}", end.reason.value)

    async def _tell(self, pod: Object, text: str, reason: str, count: int = 1) -> None:
        if self._notice is None:
            return
        node, phase = str(pod["spec"].get("nodeName") or ""), read_pod(pod).phase
        where = {"pod": self._name, "uid": self._uid, "node": node, "phase": phase}
        await self._notice(PodNews(text=text, reason=reason, count=count, **where))


async def pod_events(cluster: Cluster, name: str, uid: str) -> list[ClusterEvent]:
    """What the cluster's components told of a pod, oldest first; empty where listing that is not allowed."""
    selector = f"involvedObject.name={name},involvedObject.uid={uid}"
    try:
        found = await cluster.list("events", "", fieldSelector=selector, limit=str(MAX_EVENTS))
    except ClusterError as error:
        log.info("the events of a pod cannot be read", pod=name, error=str(error))
        return []
    return [read_event(event) for event in sorted(found["items"], key=_last_seen)]


def read_event(event: Mapping[str, Any]) -> ClusterEvent:
    """One as the API sends it; a scheduler counts in a series, which others do not have. Pure."""
    count = event.get("count") or (event.get("series") or {}).get("count") or 1
    kind, reason = str(event.get("type") or "Normal"), str(event.get("reason") or "")
    return ClusterEvent(kind, reason, one_line(event.get("message")), max(1, int(count)))


def _last_seen(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime") or "")
