"""The gate to Redis: every command and script goes through it, and is repeated through a short outage.

A command whose reply was lost may have been executed. So whatever is sent here has to mean the same when it is sent
twice; the scripts see to that with the token, the position or the call id that the caller gives them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError

from swarmq.errors import StoreError
from swarmq.store.address import Address, parse_address
from swarmq.store.doorbell import Doorbell
from swarmq.store.line import Command, Line, Unavailable, Word
from swarmq.store.refusals import passes_soon, refusal
from swarmq.store.script import load_script

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.02
MAX_WAIT_SECONDS = 1.0
MAX_REPLY_SECONDS = 5.0
"""A server that says nothing for this long counts as gone, and the command is sent again on a new connection."""
CHECK_SECONDS = 2.0
MINIMUM_MAJOR = 7
"""Of Redis' version (Valkey tells one too); nothing older is tested."""


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
    """One for each event loop. It connects on first use and needs no warm-up."""

    def __init__(
        self, address: Address, *, retry_seconds: float, max_connections: int, reply_seconds: float | None = None
    ) -> None:
        self.address, self._retry_seconds = address, retry_seconds
        self._reply_seconds = reply_seconds or min(MAX_REPLY_SECONDS, max(0.5, retry_seconds / 2))
        self._pool = _connections(address)
        self._main = Route(self._pool.make_connection, self._reply_seconds, self._reply_seconds)
        self._blocking = asyncio.Semaphore(max(1, max_connections - 2))  # the main line and the doorbell have their own
        self._doorbell = Doorbell(self._pool.make_connection, self._reply_seconds)
        self._closed = False

    @classmethod
    def open(cls, url: str, *, retry_seconds: float = 60.0, max_connections: int = 32) -> Gate:
        """UsageError for a URL that is none. ``max_connections`` bounds the blocking readers of this loop."""
        return cls(parse_address(url), retry_seconds=retry_seconds, max_connections=max_connections)

    async def call(self, *command: Word) -> Any:
        """One command. Replies are bytes, ints, lists or None. StoreError after ``retry_seconds`` without an answer."""
        return await self._insist(self._main, lambda line: line.send(command))

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
            route = Route(self._pool.make_connection, self._reply_seconds, patience)
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

    async def _insist(self, route: Route, send: Callable[[Line], Awaitable[T]]) -> T:
        now = asyncio.get_running_loop().time
        deadline, wait = now() + self._retry_seconds, FIRST_WAIT_SECONDS
        while True:
            if self._closed:
                raise StoreError(f"the connection to Redis at {self.address.shown} was closed by this process")
            try:
                return await send(await route.line())
            except ResponseError as error:
                if not passes_soon(error):
                    raise refusal(error, self.address.shown) from None
                failure: Exception = error
            except Unavailable as error:
                if not passes_soon(error.cause):
                    raise refusal(error.cause, self.address.shown) from None
                failure = error
            left = deadline - now()
            if left <= 0:
                raise StoreError(_silent(self.address, self._retry_seconds, failure)) from None
            await asyncio.sleep(min(left, random.uniform(wait / 2, wait)))
            wait = min(wait * 2, MAX_WAIT_SECONDS)


def _silent(address: Address, seconds: float, failure: Exception) -> str:
    waited = f" for {seconds:g} s" if seconds else ""
    return f"Redis at {address.shown} does not answer{waited} ({failure}); check that it runs and that the URL is right"


def _connections(address: Address) -> ConnectionPool:
    """Makes connections and holds none. Timeouts and retries are the Line's and the Gate's, so redis-py has none."""
    return ConnectionPool.from_url(
        address.url,
        protocol=2,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0),
        encoding_errors="replace",  # a model may answer with lone surrogates, which no encoding can carry
        client_name="swarmq",
    )


@dataclass(frozen=True)
class ServerInfo:
    """What answers there. ``warnings`` are settings under which records may be lost."""

    address: str
    server: str
    version: str
    warnings: tuple[str, ...] = ()


async def check(url: str) -> ServerInfo:
    """Ask the server what it is, within 2 s. UsageError or StoreError in one line that never shows the password."""
    gate = Gate(parse_address(url), retry_seconds=0, max_connections=1, reply_seconds=CHECK_SECONDS)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            reply = await gate.call("INFO")
    except TimeoutError:
        raise StoreError(_silent(gate.address, CHECK_SECONDS, TimeoutError("it is silent"))) from None
    finally:
        await gate.aclose()
    lines = (line.partition(":") for line in bytes(reply).decode(errors="replace").splitlines() if ":" in line)
    facts = {name: value.strip() for name, _, value in lines}
    version = facts.get("valkey_version") or facts.get("redis_version", "0")
    server = facts.get("server_name", "redis")
    return ServerInfo(gate.address.shown, server, version, tuple(_warnings(facts, gate.address)))


def _warnings(facts: dict[str, str], address: Address) -> list[str]:
    if facts.get("role", "master") != "master":
        raise StoreError(f"Redis at {address.shown} is a read-only replica; name the primary in redis_url")
    found = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(f"maxmemory-policy is {policy}: a full Redis would drop records; set it to noeviction")
    if facts.get("aof_enabled") == "0":
        found.append("appendonly is off: records are lost when Redis dies; set appendonly to yes")
    major = facts.get("redis_version", "0").partition(".")[0]
    if major.isdecimal() and int(major) < MINIMUM_MAJOR:
        found.append(f"its version is older than {MINIMUM_MAJOR}.0, with which swarmq is not tested; update it")
    return found
