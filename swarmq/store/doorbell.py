"""Waking up instead of polling: one subscribed connection per event loop for all who wait for something.

A ring carries nothing. What was published is read from the records, so a ring that is lost while the connection is
down costs time, never a result: every listener is rung after each (re)connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

QUIET_SECONDS = 20.0
"""After this long without a word the connection is pinged; it counts as dead when that brings nothing either."""
RECONNECT_SECONDS = 0.5


class Doorbell:
    """Connects for the first listener and hangs up after the last one."""

    def __init__(self, make: Callable[[], AbstractConnection], connect_seconds: float) -> None:
        self._make, self._connect_seconds = make, connect_seconds
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._commands: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """The event is set once the subscription stands, and then at each ring; whoever waits on it clears it."""
        bell = asyncio.Event()
        self._listeners.setdefault(channel, set()).add(bell)
        self._commands.put_nowait(("SUBSCRIBE", channel))  # also when subscribed: its confirmation is the first ring
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield bell
        finally:
            self._listeners[channel].discard(bell)
            if not self._listeners[channel]:
                del self._listeners[channel]
                self._commands.put_nowait(("UNSUBSCRIBE", channel))
            if not self._listeners:
                await self.aclose()

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            connection = self._make()
            try:
                async with asyncio.timeout(self._connect_seconds):
                    await connection.connect()  # type: ignore[no-untyped-call]
                self._commands = asyncio.Queue()
                for channel in self._listeners:
                    self._commands.put_nowait(("SUBSCRIBE", channel))
                await self._serve(connection)
            except (RedisError, OSError):
                await asyncio.sleep(random.uniform(RECONNECT_SECONDS / 2, RECONNECT_SECONDS))
            finally:
                await connection.disconnect(nowait=True)

    async def _serve(self, connection: AbstractConnection) -> None:
        writer = asyncio.get_running_loop().create_task(self._write(connection))
        try:
            await self._read(connection)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await connection.send_command(*await self._commands.get(), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        pinged = False
        while True:
            reply = await connection.read_response(timeout=QUIET_SECONDS)
            if reply is None:
                if pinged:
                    raise ConnectionError("no answer to a ping")
                pinged = True
                await connection.send_command("PING", check_health=False)
                continue
            pinged = False
            if reply[0] in (b"message", b"subscribe"):
                for bell in self._listeners.get(reply[1].decode(), ()):
                    bell.set()
