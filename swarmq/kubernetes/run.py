"""One pod that runs a branch, from its making to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType

from swarmq.kubernetes import names
from swarmq.kubernetes.answers import NOT_FOUND, Refused
from swarmq.kubernetes.cluster import Cluster, Object
from swarmq.kubernetes.ends import (
    PodEnd,
    PodReason,
    gone_end,
    has_started,
    read_end,
    start_problem,
    started_at,
    waits_for,
)
from swarmq.kubernetes.following import LogFollower
from swarmq.kubernetes.podspec import deadline_of
from swarmq.kubernetes.telling import ClusterEvent, Notice, PodTeller, pod_events
from swarmq.kubernetes.watching import PodWatch, Seat

DEFAULT_GRACE_SECONDS = 30


class PodRun:
    """A pod and its log. Leaving the block stops following; the pod stays, so that another worker can adopt it."""

    def __init__(
        self,
        cluster: Cluster,
        watch: PodWatch,
        pod: Object,
        *,
        adopted: bool,
        deadline_seconds: float,
        start_seconds: float,
        notice: Notice | None = None,
    ) -> None:
        metadata = pod["metadata"]
        self.name = str(metadata["name"])
        self.uid = str(metadata["uid"])
        self.adopted = adopted
        self.token = int(metadata.get("labels", {}).get(names.TOKEN) or 0)
        """Of the request that made the pod; an adopted one's is older."""
        self.nonce = str(metadata.get("annotations", {}).get(names.NONCE) or "")
        """Likewise."""
        self._cluster, self._teller = cluster, PodTeller(cluster, pod, notice)
        made_with_seconds = deadline_of(pod) if adopted else None
        self._deadline_seconds = made_with_seconds or deadline_seconds
        self._counts_age = made_with_seconds is not None
        """Else the deadline is counted from the adoption: the request leaves out what the pod is known to have done."""
        self._start_seconds = start_seconds
        self._place: AbstractContextManager[Seat] = watch.seat(pod)
        self._seat = self._place.__enter__()
        self._deleted = False
        self._since: dict[str, float] = {}
        """When something about the pod was first seen, by this process's own clock."""
        loop = asyncio.get_running_loop()
        self._logs: list[AsyncGenerator[str, None]] = []
        self._end: asyncio.Task[PodEnd] = loop.create_task(self._attend())
        self._end.add_done_callback(lambda _: self._seat.ring())

    async def __aenter__(self) -> PodRun:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def lines(self) -> AsyncIterator[str]:
        """The agent's lines as they come, none doubled and none torn, until no more can come.

        Lines can be missing where the node turned its log over while it was out of reach.
        """
        generator = LogFollower(self._cluster, self.name, self._seat, self._given_up).follow()
        self._logs.append(generator)  # type: ignore[arg-type]
        return generator

    async def confirm(self) -> None:
        """Look whether it is still there: an adopted pod may have gone after it was found and before it was watched."""
        try:
            pod = await self._cluster.get("pods", self.name)
        except Refused as refused:
            if refused.status == NOT_FOUND:
                self._seat.lose()
            return
        if pod["metadata"]["uid"] != self.uid:
            self._seat.lose()

    async def end(self) -> PodEnd:
        """Wait for the pod's end. ClusterError where the API stays away or takes away the rights."""
        return await asyncio.shield(self._end)

    async def delete(self) -> None:
        """Have the pod ended and removed; its Secret goes with it. Nothing happens where it is gone."""
        self._deleted = True
        await self._cluster.delete("pods", self.name, uid=self.uid)

    async def cluster_events(self) -> list[ClusterEvent]:
        """What the cluster's components told of the pod, oldest first."""
        return await pod_events(self._cluster, self.name, self.uid)

    async def aclose(self) -> None:
        self._end.cancel()
        await asyncio.gather(self._end, return_exceptions=True)
        for generator in self._logs:
            with contextlib.suppress(RuntimeError):  # another task is in it, and sees the end at its next look
                await generator.aclose()
        self._place.__exit__(None, None, None)

    def _given_up(self) -> bool:
        """Whether the end is known although the container has not ended, as far as anybody knows."""
        if not self._end.done() or self._end.cancelled():
            return self._end.cancelled()
        return self._end.exception() is not None or read_end(self._seat.pod) is None

    async def _attend(self) -> PodEnd:
        """Wait for the end, making one where the pod's time is up. A pod that is given up is deleted."""
        while True:
            seen = self._seat.pod  # before anything is told: news that come meanwhile are not waited for
            end, look_again_seconds = self._judge()
            if end is not None:
                break
            await self._teller.tell_standing(seen)
            if not has_started(seen):
                look_again_seconds = min(look_again_seconds, await self._teller.tell_events_if_due(seen))
            await self._seat.until(lambda seen=seen: self._seat.pod is not seen or self._seat.gone, look_again_seconds)  # type: ignore[misc]
        if end.reason is not PodReason.COMPLETED and not self._deleted:
            end = await self._explained(end)
        if not self._seat.gone and read_end(self._seat.pod) is None:
            grace = 0 if end.reason is PodReason.NODE_LOST else None
            await self._cluster.delete("pods", self.name, uid=self.uid, grace_seconds=grace)
        return end

    async def _explained(self, end: PodEnd) -> PodEnd:
        """Tell it, with what the cluster says. A back-off does not say what it comes after; the events do."""
        events = await self._teller.tell_events(self._seat.pod)
        if end.reason is PodReason.IMAGE_UNPULLABLE and "ErrImagePull" not in end.detail:
            end = replace(end, detail=_with_failure(end.detail, events))
        await self._teller.tell_end(self._seat.pod, end)
        return end

    def _judge(self) -> tuple[PodEnd | None, float]:
        """The end where there is one, and else when to look again if no news come."""
        pod, started = self._seat.pod, has_started(self._seat.pod)
        end = self._known_end()
        if end is not None:
            return end, 0.0
        if pod["metadata"].get("deletionTimestamp"):
            grace = pod["metadata"].get("deletionGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
            left = self._left("deletion", grace + self._cluster.patience.deletion_seconds)
            detail = "the pod was to be deleted, and its node does not answer"
            return (PodEnd(PodReason.NODE_LOST, detail, None, started) if left <= 0 else None), left
        if started:
            left = self._left("start", self._deadline_seconds - self._age_at_adoption(pod))
            detail = f"the agent did not end within {self._deadline_seconds:g} s"
            return (PodEnd(PodReason.TIMED_OUT, detail, None, True) if left <= 0 else None), left
        return self._judge_start(pod)

    def _judge_start(self, pod: Object) -> tuple[PodEnd | None, float]:
        left = self._left("creation", self._start_seconds)
        problem = start_problem(pod)
        if problem is None:
            self._since.pop("problem", None)
        else:
            reason, detail, for_good = problem
            left = min(left, self._left("problem", self._cluster.patience.start_failure_seconds))
            if for_good or left <= 0:
                return PodEnd(reason, detail), 0.0
        if left > 0:
            return None, left
        why = waits_for(pod) or "nobody says why"
        return PodEnd(PodReason.NEVER_STARTED, f"not started within {self._start_seconds:g} s: {why}"), 0.0

    def _known_end(self) -> PodEnd | None:
        """What the pod itself says, or its being gone."""
        end = gone_end(self._seat.pod) if self._seat.gone else read_end(self._seat.pod)
        if end is not None and end.lost and self._deleted:
            return replace(end, detail="the pod was deleted by swarmq")
        return end

    def _left(self, what: str, seconds: float) -> float:
        """How much of that time is left since it was first asked for."""
        now = asyncio.get_running_loop().time()
        return self._since.setdefault(what, now) + seconds - now

    def _age_at_adoption(self, pod: Object) -> float:
        """How long an adopted pod had run before; its node's clock says so, which is near enough for a time-out."""
        if not self._counts_age:
            return 0.0
        first = self._since.setdefault("adopted at", time.time())
        return max(0.0, first - (started_at(pod) or first))


def _with_failure(detail: str, events: Sequence[ClusterEvent]) -> str:
    causes = [event.message for event in events if (event.kind, event.reason) == ("Warning", "Failed")]
    return f"{detail}; {causes[0]}" if causes else detail
