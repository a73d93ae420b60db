"""Events: one stream per swarm, and one that tells of all swarms' starts and ends."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

from pydantic_core import PydanticSerializationError

from swarmq.errors import NotFoundError, UsageError
from swarmq.models.events import Event, EventType
from swarmq.models.swarm import SwarmState
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import dump_value, load
from swarmq.store.connection import Gate

EVENTS_KEPT = 100_000
"""Per swarm, about. record.lua and _swarm.lua know the same figure."""
BLOCK_SECONDS = 5.0
_BATCH = 500
_ID = re.compile(r"\d+(-\d+)?")


def encode(event: Event) -> bytes:
    """What the stream holds: JSON without the id, which the stream gives."""
    try:
        return event.model_dump_json(exclude={"id"}).encode()
    except PydanticSerializationError:  # a lone surrogate in a preview
        return dump_value(event.model_dump(exclude={"id"}))


class Events:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def emit(self, swarm_id: str, *events: Event) -> None:
        """Append to the swarm's stream. NotFoundError where the swarm is gone."""
        key, swarm = keys.EVENTS(swarm_id), keys.SWARM(swarm_id)
        await self._gate.script("append", (swarm, key), (new_call_id(), EVENTS_KEPT, *map(encode, events)))

    async def read(self, swarm_id: str | None, after: str = "0", block_ms: int = 0, count: int = _BATCH) -> list[Event]:
        """Events behind the id ``after``; None reads the fleet's stream. Waits for up to ``block_ms`` where none is."""
        command = _xread(_stream(swarm_id), after, count, block_ms)
        if not block_ms:
            return _decode(await self._gate.call(*command))
        async with self._gate.reader(block_ms / 1000) as call:
            return _decode(await call(*command))

    async def follow(self, swarm_id: str, after: str = "0") -> AsyncGenerator[Event, None]:
        """All events behind ``after``, then new ones as they come, until the swarm has ended. NotFoundError."""
        stream = _stream(swarm_id)
        over = await self._is_over(swarm_id)
        if over is None:
            raise NotFoundError(f"there is no swarm {swarm_id}")
        async with self._gate.reader(BLOCK_SECONDS) as call:
            while True:
                block_ms = 0 if over else int(BLOCK_SECONDS * 1000)
                events = _decode(await call(*_xread(stream, after, _BATCH, block_ms)))
                for event in events:
                    after = event.id
                    yield event
                    if event.type is EventType.SWARM_FINISHED:
                        return
                if not events:
                    if over:  # known before this read, which so has seen all that there is
                        return
                    over = await self._is_over(swarm_id) is not False

    async def _is_over(self, swarm_id: str) -> bool | None:
        state = await self._gate.call("HGET", keys.SWARM(swarm_id), "state")
        return None if state is None else SwarmState(state.decode()).final


def _stream(swarm_id: str | None) -> str:
    return keys.FLEET_EVENTS() if swarm_id is None else keys.EVENTS(swarm_id)


def _xread(stream: str, after: str, count: int, block_ms: int) -> tuple[str | int, ...]:
    if not _ID.fullmatch(after):
        raise UsageError(f"event id {after!r}: it looks like 1700000000000-0, or 0 for the beginning")
    block = ("BLOCK", block_ms) if block_ms else ()
    return ("XREAD", "COUNT", count, *block, "STREAMS", stream, after)


def _decode(reply: Any) -> list[Event]:
    found = []
    for _, entries in reply or ():
        for raw_id, (_, raw) in entries:
            event_id = raw_id.decode()
            found.append(load(Event, raw, f"event {event_id}").model_copy(update={"id": event_id}))
    return found
