"""One rate limiter per model endpoint for the whole fleet; the scripts ``limiter_*`` decide, this is how to wait.

A call that gets its permit at once costs two commands: ask, and report. Those of a process that have to wait share one
usher for each endpoint: it looks for their permits when it is rung, and when the scripts say so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from swarmq.errors import StoreError
from swarmq.models.limits import Bucket, Rates, Report, Verdict, Wish
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate
from swarmq.store.line import Word

log = structlog.get_logger()

SHOWN_AFTER_SECONDS = 0.25
"""A wait that is shorter is nobody's business."""
PERMIT_SECONDS, KEEP_SECONDS = 30.0, 10.0
"""A permit is good for so long, and is renewed so often while its call is under way: what a dead process held is free
again soon, however long calls may take."""
CLOSE_SECONDS = 2.0
"""For reports on their way when the process ends; what they hold expires."""

_UNUSED = Report(Verdict.UNUSED)


class FleetLimiter:
    """The limits of all endpoints, as this process sees them. Belongs to one event loop, as its gate does."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._process = new_call_id()
        self._queues: dict[str, _Queue] = {}
        self._reports: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, str] = {}
        """Endpoints by ticket."""
        self._keeper: asyncio.Task[None] | None = None

    async def acquire(self, wish: Wish, on_wait: Callable[[str], Awaitable[None]]) -> FleetPermit:
        """Wait for a permit of the endpoint. StoreError where Redis stays away.

        ``on_wait`` is called with the reason when the wait is long enough to be shown. A cancelled caller's place is
        given back at once, behind its back.
        """
        queue = self._queues.get(wish.endpoint)
        if queue is None:
            queue = self._queues[wish.endpoint] = _Queue(self._gate, wish.endpoint, self._process)
        now, permit = asyncio.get_running_loop().time, FleetPermit(self, wish)
        started, granted = now(), False
        try:
            delay_seconds = await queue.ask(permit.ticket, wish)
            if delay_seconds is None:
                delay_seconds = await queue.wait(permit.ticket, wish, on_wait)
                permit.waited_seconds = now() - started
            if delay_seconds > 0:
                await asyncio.sleep(delay_seconds)
                permit.waited_seconds = now() - started
            granted = True
            self._under_way[permit.ticket] = wish.endpoint
            if self._keeper is None:
                self._keeper = asyncio.get_running_loop().create_task(self._keep())
        finally:
            if not granted:
                permit.release(_UNUSED)
        return permit

    def report(self, ticket: str, wish: Wish, report: Report) -> None:
        """Send it behind the caller's back: an answer that was paid for neither waits for this nor is lost with it."""
        self._under_way.pop(ticket, None)
        task = asyncio.get_running_loop().create_task(self._send(ticket, wish, report))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _send(self, ticket: str, wish: Wish, report: Report) -> None:
        told = (*_bucket(report.signs.requests), *_bucket(report.signs.tokens))
        head = (ticket, report.verdict.value, report.retry_after_seconds, random.random())
        arguments = (*_limits(wish.rates), *head, *told, report.tokens)
        try:
            await self._gate.script("limiter_report", _keys(wish.endpoint), arguments)
        except StoreError as error:  # the permit expires by itself
            log.warning("a model call's end could not be reported", endpoint=wish.endpoint, error=str(error))

    async def _keep(self) -> None:
        """Renew the permits of all calls under way, until there are none."""
        try:
            while self._under_way:
                await asyncio.sleep(KEEP_SECONDS)
                for endpoint in set(self._under_way.values()):
                    tickets = [ticket for ticket, own in self._under_way.items() if own == endpoint]
                    try:
                        await self._gate.script("limiter_keep", [keys.LIMITER[1](endpoint)], (PERMIT_SECONDS, *tickets))
                    except StoreError as error:  # they may expire, and a few calls too many start
                        log.warning("permits were not renewed", endpoint=endpoint, error=str(error))
        finally:
            self._keeper = None

    async def aclose(self) -> None:
        """Wait for the reports that are on their way; before the gate is closed."""
        if self._reports:
            await asyncio.wait(self._reports, timeout=CLOSE_SECONDS)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for queue in self._queues.values():
            await queue.aclose()


class FleetPermit:
    """One call's place among those in flight at an endpoint."""

    def __init__(self, limiter: FleetLimiter, wish: Wish) -> None:
        self.ticket = new_call_id()
        self.waited_seconds = 0.0
        self._limiter, self._wish, self._open = limiter, wish, True

    def release(self, report: Report) -> None:
        if self._open:
            self._open = False
            self._limiter.report(self.ticket, self._wish, report)


class _Queue:
    """The calls of this process that wait for one endpoint."""

    def __init__(self, gate: Gate, endpoint: str, process: str) -> None:
        self._gate, self._process = gate, process
        self._keys = _keys(endpoint)
        self._channel = keys.LIMITER_CHANNEL % (endpoint, process)
        self._rates = Rates()
        self._waiting: dict[str, asyncio.Future[float | None]] = {}
        self._usher: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._relied_on = False
        """Other processes count on this one to look when its alarm goes."""
        self.reason = ""

    async def ask(self, ticket: str, wish: Wish) -> float | None:
        """Seconds until the call may start; None where it has to wait in the queue."""
        self._rates = wish.rates
        call = (ticket, self._process, wish.swarm_id, wish.tokens, PERMIT_SECONDS)
        reply = await self._gate.script("limiter_ask", self._keys, (*_limits(wish.rates), *call))
        delay_seconds, relied_on = float(reply[0]), bool(reply[2])
        if delay_seconds < 0 or relied_on:
            self._look_in(float(reply[1]), reply[3].decode(), relied_on=relied_on)
        return delay_seconds if delay_seconds >= 0 else None

    async def wait(self, ticket: str, wish: Wish, on_wait: Callable[[str], Awaitable[None]]) -> float:
        """Seconds until the start, as soon as the permit is there. The ticket is in the queue."""
        delay_seconds = await self._wait(ticket, on_wait)
        while delay_seconds is None:  # Redis has lost the ticket
            delay_seconds = await self.ask(ticket, wish)
            if delay_seconds is None:
                delay_seconds = await self._wait(ticket, None)
        return delay_seconds

    async def _wait(self, ticket: str, on_wait: Callable[[str], Awaitable[None]] | None) -> float | None:
        future: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        self._start()
        try:
            if on_wait is not None:
                done, _ = await asyncio.wait({future}, timeout=SHOWN_AFTER_SECONDS)
                if not done:
                    await on_wait(self.reason)
            return await future
        finally:
            self._waiting.pop(ticket, None)

    def _look_in(self, seconds: float, reason: str, *, relied_on: bool) -> None:
        """Look again then, or at the time that was promised before where that is sooner."""
        self.reason = reason
        self._relied_on = self._relied_on or relied_on
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._alarm is not None:
            if self._alarm.when() <= due:
                return
            self._alarm.cancel()
        self._alarm = loop.call_at(due, self._ring)
        self._start()

    def _ring(self) -> None:
        self._alarm, self._relied_on = None, False
        self._bell.set()

    def _start(self) -> None:
        if self._usher is None:
            self._usher = asyncio.get_running_loop().create_task(self._ush())

    async def _ush(self) -> None:
        """Until nobody waits, and no other process relies on it."""
        try:
            while self._waiting or self._relied_on:
                async with self._gate.listen(self._channel) as self._bell:
                    while self._waiting or self._relied_on:
                        await self._bell.wait()
                        self._bell.clear()
                        await self._collect()
        except StoreError as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
        finally:
            self._usher = None

    async def _collect(self) -> None:
        tickets = [ticket for ticket, future in self._waiting.items() if not future.done()]
        arguments = (*_limits(self._rates), self._process, *tickets)
        reply = await self._gate.script("limiter_collect", self._keys, arguments)
        for raw_ticket, raw_delay in zip(reply[3::2], reply[4::2], strict=True):
            future, delay_seconds = self._waiting.get(raw_ticket.decode()), float(raw_delay)
            if future is not None and not future.done():
                future.set_result(delay_seconds if delay_seconds >= 0 else None)
        self._look_in(float(reply[0]), reply[2].decode(), relied_on=bool(reply[1]))
        await asyncio.sleep(0)  # who got a permit leaves

    async def aclose(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._usher is not None:
            self._usher.cancel()
            await asyncio.gather(self._usher, return_exceptions=True)


def _keys(endpoint: str) -> Sequence[str]:
    return [key(endpoint) for key in keys.LIMITER]


def _limits(rates: Rates) -> tuple[Word, ...]:
    def per_second(per_minute: float | None) -> Word:
        return "" if per_minute is None else per_minute / 60

    initial = min(rates.initial_concurrency, rates.max_concurrency)
    pace = (per_second(rates.requests_per_minute), per_second(rates.tokens_per_minute))
    return (rates.max_concurrency, initial, rates.min_spacing_ms / 1000, *pace)


def _bucket(bucket: Bucket | None) -> tuple[Word, ...]:
    return ("", "", "") if bucket is None else (bucket.limit, bucket.remaining, bucket.reset_seconds)
