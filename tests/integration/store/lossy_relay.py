"""A TCP port in front of a unix socket that loses replies: the command arrived, its answer does not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class LossyRelay:
    """Forwards what the client says, and each answer with the chance that is left."""

    def __init__(self, socket: Path, loss: float, chance: random.Random) -> None:
        self._socket, self.loss, self._chance = socket, loss, chance
        self.lost = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        server_reader, server_writer = await asyncio.open_unix_connection(str(self._socket))
        asking = asyncio.create_task(self._forward(reader, server_writer, lossy=False))
        self._tasks.add(asking)
        try:
            await self._forward(server_reader, writer, lossy=True)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._tasks.discard(asking)
            for end in (writer, server_writer):
                end.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, lossy: bool) -> None:
        try:
            while data := await reader.read(65536):
                if lossy and self._chance.random() < self.loss:
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return


@asynccontextmanager
async def lossy_relay(socket: Path, loss: float, seed: int = 1) -> AsyncIterator[tuple[LossyRelay, int]]:
    """The relay and its port on 127.0.0.1."""
    relay = LossyRelay(socket, loss, random.Random(seed))
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
