"""The gate to Redis: every command and script goes through it, and is repeated through a short outage.

A command whose reply was lost may have been executed. So whatever is sent here has to mean the same when it is sent
twice; the scripts see to that with the token, the position or the call id that the caller gives them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from swarmq.errors import StoreError
from swarmq.store.address import Address, parse_address
from swarmq.store.connecting import Connections
from swarmq.store.doorbell import Doorbell
from swarmq.store.line import Command, Line, Unavailable, Word
from swarmq.store.refusals import can_be_mended, passes_soon, refusal
from swarmq.store.script import load_script

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.02
MAX_WAIT_SECONDS = 1.0
MAX_REPLY_SECONDS = 5.0
"""A server that says nothing for this long counts as gone, and the command is sent again on a new connection."""


class Route:
    """Finds a working Line, making a new one where the last one failed. Callers share one attempt to connect."""

    def __init__(self, make: Callable[[], AbstractConnection], connect_seconds: float, reply_seconds: float) -> None:
        self._make, self._connect_seconds, self._reply_seconds = make, connect_seconds, reply_seconds
        self._line: Line | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def line(self) -> Line:
        """A Line that worked a moment ago. Unavailable or ResponseError where none could be made."""
        while self._line is None or self._line.failure is not None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
                self._connecting.add_done_callback(_retrieve)
            await asyncio.shield(self._connecting)
        return self._line

    async def _connect(self) -> None:
        self._line = await Line.open(self._make(), self._connect_seconds, self._reply_seconds)

    async def drop(self) -> None:
        """Hang up: the next caller connects anew."""
        if self._line is not None:
            await self._line.aclose()

    async def aclose(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._line is not None:
            await self._line.aclose()


def _retrieve(task: asyncio.Task[None]) -> None:
    """All who waited may have been cancelled; the failure is then nobody's business."""
    if not task.cancelled():
        task.exception()


class Gate:
    """One for each event loop. It connects on first use and needs no warm-up.

    A server that is full, cannot save, or has become a replica refuses writes until somebody mends it. To a
    ``patient`` gate, a worker's, that is an outage like any other; else it is told at once, as a person wants it.
    """

    def __init__(
        self,
        address: Address,
        *,
        retry_seconds: float,
        max_connections: int,
        reply_seconds: float | None = None,
        patient: bool = False,
    ) -> None:
        self.address, self._retry_seconds, self._patient = address, retry_seconds, patient
        self._reply_seconds = reply_seconds or min(MAX_REPLY_SECONDS, max(0.5, retry_seconds / 2))
        self._connections = Connections(address)
        self._main = Route(self._connections.make, self._reply_seconds, self._reply_seconds)
        self._blocking = asyncio.Semaphore(max(1, max_connections - 2))  # the main line and the doorbell have their own
        self._doorbell = Doorbell(self._connections.make, self._reply_seconds)
        self._closed = False

    @classmethod
    def open(cls, url: str, *, retry_seconds: float = 60.0, max_connections: int = 32, patient: bool = False) -> Gate:
        """UsageError for a URL that is none. ``max_connections`` bounds the blocking readers of this loop."""
        address = parse_address(url)
        return cls(address, retry_seconds=retry_seconds, max_connections=max_connections, patient=patient)

    async def call(self, *command: Word) -> Any:
        """One command. Replies are bytes, ints, lists or None. StoreError after ``retry_seconds`` without an answer."""
        return await self._insist(self._main, lambda line: line.send(command))

    async def now(self) -> float:
        """Unix seconds by the clock of Redis, which all leases go by."""
        seconds, microseconds = await self.call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one write, their replies in order; not atomic, and repeated as a whole."""
        return await self._insist(self._main, lambda line: asyncio.gather(*map(line.send, commands)))

    async def script(self, name: str, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """Run ``scripts/<name>.lua``. Its refusals come as LeaseLost, NotFoundError, SchemaError or UsageError."""
        script = load_script(name)
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        while True:
            try:
                return await self._insist(self._main, lambda line: line.send(command))
            except NoScriptError:
                await self.call("SCRIPT", "LOAD", script.text)

    @asynccontextmanager
    async def reader(self, block_seconds: float) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """A connection of its own for commands that block for up to ``block_seconds``; waits where all are taken."""
        async with self._blocking:
            patience = self._reply_seconds + block_seconds
            route = Route(self._connections.make, self._reply_seconds, patience)
            try:
                yield lambda *command: self._insist(route, lambda line: line.send(command))
            finally:
                await route.aclose()

    def listen(self, channel: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever something is published on the channel, and after each reconnection."""
        return self._doorbell.listen(channel)

    async def aclose(self) -> None:
        """Close all connections; who still waits for a reply gets StoreError."""
        self._closed = True
        await self._doorbell.aclose()
        await self._main.aclose()
        await self._connections.aclose()

    async def _insist(self, route: Route, send: Callable[[Line], Awaitable[T]]) -> T:
        now = asyncio.get_running_loop().time
        deadline, wait = now() + self._retry_seconds, FIRST_WAIT_SECONDS
        while True:
            if self._closed:
                raise StoreError(f"the connection to Redis at {self.address.shown} was closed by this process")
            try:
                return await send(await route.line())
            except ResponseError as error:
                if not (passes_soon(error) or (self._patient and can_be_mended(error))):
                    raise refusal(error, self.address.shown) from None
                failure: Exception = error
                if isinstance(error, ReadOnlyError):  # a fail-over: the name may lead to the new primary by now
                    await route.drop()
            except Unavailable as error:
                if not passes_soon(error.cause):
                    raise refusal(error.cause, self.address.shown) from None
                failure = error
            left = deadline - now()
            if left <= 0:
                if can_be_mended(failure):
                    raise refusal(failure, self.address.shown) from None
                raise StoreError(silent(self.address, self._retry_seconds, failure)) from None
            await asyncio.sleep(min(left, random.uniform(wait / 2, wait)))
            wait = min(wait * 2, MAX_WAIT_SECONDS)


def silent(address: Address, seconds: float, failure: Exception) -> str:
    """What to say of a server that does not answer."""
    waited = f" for {seconds:g} s" if seconds else ""
    speaks = ", that it speaks TLS," if address.tls else ", that it wants no TLS (rediss://)," if address.hosts else ""
    runs = "a Sentinel and the primary run" if address.master else f"it runs{speaks}"
    return f"Redis at {address.shown} does not answer{waited} ({failure}); check that {runs} and that the URL is right"
