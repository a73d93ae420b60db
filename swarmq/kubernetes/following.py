"""Following a pod's log to its end, through connections that break and a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from swarmq.kubernetes.answers import NOT_FOUND, Call, Refused, explain, wait_seconds
from swarmq.kubernetes.cluster import Cluster, describe, refuse_certificate, unreachable
from swarmq.kubernetes.ends import has_started, is_terminated
from swarmq.kubernetes.log_lines import LogLines
from swarmq.kubernetes.podspec import AGENT
from swarmq.kubernetes.watching import Seat

log = structlog.get_logger()

NOT_THERE_YET = 400
MISSING_TRIES = 5
"""A node agent that has just started answers 404 for each of its pods, for a second or a few. A pod that runs is waited
for; the log of one that has ended may be gone from its node, and is asked for so many times again: for 3 to 6 s."""


class LogFollower:
    """The log of one pod's agent. ``given_up`` says that nobody waits for the pod's end any more."""

    def __init__(self, cluster: Cluster, name: str, seat: Seat, given_up: Callable[[], bool]) -> None:
        self._cluster, self._name, self._seat, self._given_up = cluster, name, seat, given_up
        self._lines = LogLines()

    async def follow(self) -> AsyncIterator[str]:
        """All lines from the beginning of what the node has, until the container has ended and no more can come."""
        seat, attempt, missing = self._seat, 0, 0
        await seat.until(lambda: has_started(seat.pod) or self._over())
        while not self._given_up():
            over = self._over()  # known before the log is asked for, so that the answer is the whole log
            told_seconds, whole, news, rest = 0.0, False, False, self._lines.rest
            try:
                async for line in self._read(follow=not over):
                    attempt, news = 0, True
                    yield line
                whole = True
            except Refused as refused:
                if over and self._has_none(refused.status, missing):
                    break
                if not refused.passes and refused.status not in (NOT_FOUND, NOT_THERE_YET):
                    raise explain(refused, self._cluster.namespace) from None
                missing += over and refused.status == NOT_FOUND
                told_seconds = refused.retry_after_seconds
            except unreachable() as error:
                refuse_certificate(error)
                log.info("the log of a pod broke off", pod=self._name, error=describe(error))
            if whole and over and not news and self._lines.rest == rest:
                for line in self._lines.finish():
                    yield line
                break
            if whole and over:  # what is between can end an answer early as if it were whole: the next has to agree
                continue
            if whole and await seat.until(self._over, self._cluster.patience.last_news_seconds):
                continue
            await asyncio.sleep(wait_seconds(attempt, told_seconds))
            attempt += 1
        if self._lines.left_out:
            log.warning("lines of a pod's log were too long", pod=self._name, lines=self._lines.left_out)

    def _over(self) -> bool:
        return self._seat.gone or is_terminated(self._seat.pod) or self._given_up()

    def _has_none(self, status: int, missing: int) -> bool:
        """Whether that answer, the last of so many, says that a pod which is over has no log."""
        if status == NOT_FOUND:
            return self._seat.gone or missing == MISSING_TRIES
        return status == NOT_THERE_YET

    async def _read(self, *, follow: bool) -> AsyncIterator[str]:
        query = {"container": AGENT, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if self._lines.since is not None:
            query["sinceTime"] = self._lines.since
        self._lines.connected()
        async with self._cluster.stream(
            Call("get", "pods/log", self._name), query, self._cluster.patience.quiet_log_seconds
        ) as content:
            async for piece in content.iter_any():
                for line in self._lines.feed(piece):
                    yield line
