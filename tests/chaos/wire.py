"""A TCP port in front of Valkey's unix socket that cuts, delays, stops, and changes what is published through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from swarmq.background import BackgroundLoop

QUEUE_PREFIX = b"swarmq."
Publication = Callable[[bytes, bytes], list[bytes]]
"""What is pushed to a queue (name, message) in the place of that message."""


def _as_it_is(queue: bytes, message: bytes) -> list[bytes]:
    return [message]


def encode(*words: bytes) -> bytes:
    """A command in the protocol's words."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def take_commands(buffer: bytearray) -> Iterator[tuple[list[bytes], bytes]]:
    """Complete commands at the head of the buffer, which leave it: their words, and how they came."""
    while (end := _end_of_command(buffer)) is not None:
        raw = bytes(buffer[:end])
        del buffer[:end]
        yield _words(raw), raw


def _end_of_command(buffer: bytearray) -> int | None:
    line = buffer.find(b"\r\n")
    if line < 0:
        return None
    position = line + 2
    for _ in range(int(buffer[1:line])):
        line = buffer.find(b"\r\n", position)
        if line < 0:
            return None
        position = line + 2 + int(buffer[position + 1 : line]) + 2
        if position > len(buffer):
            return None
    return position


def _words(raw: bytes) -> list[bytes]:
    words, position = [], raw.index(b"\r\n") + 2
    while position < len(raw):
        line = raw.index(b"\r\n", position)
        size = int(raw[position + 1 : line])
        words.append(raw[line + 2 : line + 2 + size])
        position = line + 2 + size + 2
    return words


class Wire:
    """All workers' way to Redis. Its methods may be called from any thread."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._background = BackgroundLoop("wire")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self.delay_seconds = 0.0
        self.publish: Publication = _as_it_is
        self._background.loop.call_soon_threadsafe(self._open.set)
        self._server, self.port = self._background.run(self._start())

    async def _start(self) -> tuple[asyncio.Server, int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        return server, server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        self._background.run(self._cut())

    def hold(self) -> None:
        """Let nothing through in either direction, and answer nothing to new connections: a black hole."""
        self._background.loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        self._background.loop.call_soon_threadsafe(self._open.set)

    def wait(self, seconds: float) -> None:
        """Let the fault last: the time itself is what is tested."""
        self._background.run(asyncio.sleep(seconds))

    def heal(self) -> None:
        self.delay_seconds, self.publish = 0.0, _as_it_is
        self.release()

    def close(self) -> None:
        self._background.loop.call_soon_threadsafe(self._server.close)
        self.release()
        self.cut()
        self._background.run(self._gone())
        self._background.stop()

    async def _gone(self) -> None:
        """Until every connection's task has ended: cancelled ones would complain."""
        while others := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            await asyncio.wait(others)

    async def _cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:  # Redis is down
            writer.transport.abort()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        asking = asyncio.create_task(self._ask(reader, server_writer))
        self._tasks.add(asking)
        try:
            await self._answer(server_reader, writer)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._tasks.discard(asking)
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        try:
            while data := await reader.read(65536):
                await self._pass()
                buffer += data
                for words, raw in take_commands(buffer):
                    writer.write(self._changed(words, raw))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._pass()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return

    async def _pass(self) -> None:
        await self._open.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)

    def _changed(self, words: list[bytes], raw: bytes) -> bytes:
        """A publication may become several or none: then another command answers with a number in its place."""
        if words[0].upper() != b"LPUSH" or not words[1].startswith(QUEUE_PREFIX):
            return raw
        messages = self.publish(words[1], words[2])
        return encode(words[0], words[1], *messages) if messages else encode(b"LLEN", words[1])
