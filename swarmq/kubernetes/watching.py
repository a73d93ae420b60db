"""One watch for all pods of this process: who waits for news of a pod has a seat at it.

The watch is a list, then a stream of changes from there on. A stream is closed by the server, by what is between, or
silently by nobody; it is then opened again where it stopped, or, where the server has forgotten that place (410), after
another list. Where there is no watching to be had, lists at intervals do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from swarmq.errors import ClusterError
from swarmq.kubernetes import names
from swarmq.kubernetes.answers import GONE, Call, NotTheServer, Refused, explain, read_change, wait_seconds
from swarmq.kubernetes.cluster import Cluster, Object, describe, refuse_certificate, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import StreamReader

log = structlog.get_logger()

SHORT_SECONDS, SHORT_STREAMS = 1.0, 5
"""So many streams in a row that ended that soon: something in between does not let them live."""
LISTS_INSTEAD = 12
"""Before it is tried again."""
_WATCH, _LIST = Call("watch", "pods"), Call("list", "pods")


class Seat:
    """What is known of one pod. ``pod`` is its newest state, also when it is ``gone``."""

    def __init__(self, pod: Object) -> None:
        self.pod = pod
        self.gone = False
        self.failure: ClusterError | None = None
        """Nothing more will be known of it, and why."""
        self._waiting: set[asyncio.Event] = set()

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def update(self, pod: Object) -> None:
        if not self.gone:
            self.pod = pod
            self.ring()

    def lose(self, pod: Object | None = None) -> None:
        self.pod = pod or self.pod
        self.gone = True
        self.ring()

    def fail(self, error: ClusterError) -> None:
        self.failure = error
        self.ring()

    def ring(self) -> None:
        for event in self._waiting:
            event.set()

    async def until(self, done: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Wait until that holds, looking at each change; False when the time is up. ClusterError if none come."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(timeout_seconds):
                while not done():
                    if self.failure is not None:
                        raise self.failure
                    await event.wait()
                    event.clear()
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(event)


class PodWatch:
    """Runs while somebody has a seat."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._patience = cluster, cluster.patience
        self._selector = names.selector(names.MANAGED)
        self._seats: dict[str, list[Seat]] = {}
        self._task: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        """Told to end. The next one begins when they have: what is known of a stream is kept here, for one of them."""
        self._listing: list[Seat] | None = None
        """Those who took their seat after the list under way was asked for: it may not show their pods yet."""
        self._reached = ""
        """What the last stream has told, as a version: one that broke is opened again there, or it tells old news."""
        self._short_streams = 0
        self._may_watch = True

    @contextmanager
    def seat(self, pod: Object) -> Iterator[Seat]:
        """Be told of that pod, which exists or did a moment ago."""
        seat, name = Seat(pod), str(pod["metadata"]["name"])
        self._seats.setdefault(name, []).append(seat)
        if self._listing is not None:
            self._listing.append(seat)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield seat
        finally:
            self._seats[name].remove(seat)
            if not self._seats[name]:
                del self._seats[name]
            if not self._seats:
                self._leave()

    async def aclose(self) -> None:
        self._leave()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _leave(self) -> None:
        """Stop watching. It takes a moment, in which somebody else may take a seat."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _run(self) -> None:
        if self._leaving:
            await asyncio.wait(self._leaving)
        try:
            await self._watch()
        except ClusterError as error:
            self._fail(error)

    async def _watch(self) -> None:
        """Until cancelled. ClusterError where nothing more can be known."""
        version, attempt = "", 0
        failures: tuple[type[BaseException], ...] = (Refused, *unreachable())
        while True:
            try:
                if not version:
                    version = await self._list()
                if self._may_watch and self._short_streams < SHORT_STREAMS:
                    version = await self._stream(version)
                else:
                    version = await self._poll()
                attempt = 0
            except failures as error:
                version = await self._mend(error, version, attempt)
                attempt += 1

    async def _poll(self) -> str:
        for _ in range(LISTS_INSTEAD):
            await asyncio.sleep(self._patience.poll_seconds)
            version = await self._list()
        self._short_streams = 0
        return version

    async def _mend(self, error: BaseException, version: str, attempt: int) -> str:
        """Where to go on after a watch that failed: the version, '' for another list.

        Where somebody else answers the watch, lists are how anything is heard at all.
        """
        told_seconds = 0.0
        if isinstance(error, Refused):
            told_seconds = error.retry_after_seconds
            if error.status == GONE:
                return ""
            if error.lacks_rights:  # a list was allowed, or this would be a ClusterError
                self._may_watch = False
                log.warning("pods are listed at intervals", reason=str(explain(error, self._cluster.namespace)))
                return ""
            if not error.passes:
                self._fail_with(error)
                return ""
        elif isinstance(error, TimeoutError):  # whatever it should have told is not known
            return ""
        else:
            refuse_certificate(error)
        log.info("the watch of pods broke", error=describe(error))
        await asyncio.sleep(wait_seconds(attempt, told_seconds))
        return self._reached if version and not isinstance(error, NotTheServer) else ""

    def _fail_with(self, refused: Refused) -> None:
        raise ClusterError(str(explain(refused, self._cluster.namespace)))

    async def _list(self) -> str:
        """Look at all pods; returns the version from which to watch."""
        self._listing = []
        try:
            found = await self._cluster.list("pods", self._selector)
            new, pods = self._listing, {pod["metadata"]["name"]: pod for pod in found["items"]}
        finally:
            self._listing = None
        for name, seats in self._seats.items():
            pod = pods.get(name)
            for seat in seats:
                if pod is not None and pod["metadata"]["uid"] == seat.uid:
                    seat.update(pod)
                elif not any(seat is other for other in new):
                    seat.lose()
        return str(found["metadata"].get("resourceVersion") or "")

    async def _stream(self, version: str) -> str:
        """Take changes as they come until the server ends the watch; returns the version to go on from."""
        query = {
            "watch": "true",
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._patience.watch_seconds),
        }
        now = asyncio.get_running_loop().time
        started, self._reached = now(), version
        async with self._cluster.stream(_WATCH, query, self._patience.quiet_watch_seconds) as content:
            async for line in _lines(content):
                self._reached = self._take(*read_change(_WATCH, line), self._reached)
        self._short_streams = self._short_streams + 1 if now() - started < SHORT_SECONDS else 0
        return self._reached

    def _take(self, kind: str, thing: Object, version: str) -> str:
        if kind == "ERROR":
            code = thing.get("code")
            status = code if isinstance(code, int) else 500
            raise Refused(_WATCH, status, str(thing.get("reason")), str(thing.get("message")))
        metadata = thing["metadata"]
        for seat in self._seats.get(metadata.get("name"), ()) if kind != "BOOKMARK" else ():
            if metadata.get("uid") == seat.uid:
                seat.lose(thing) if kind == "DELETED" else seat.update(thing)
        return str(metadata.get("resourceVersion") or version)

    def _fail(self, error: ClusterError) -> None:
        for seats in self._seats.values():
            for seat in seats:
                seat.fail(error)


async def _lines(content: StreamReader) -> AsyncIterator[bytes]:
    """Those that are not empty; a last one that was cut off is left out."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        *lines, last = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
