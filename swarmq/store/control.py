"""What holds a swarm back and what moves it on: pauses, and messages that are sent again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from swarmq.models.events import Event, EventType
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.line import Word


@dataclass(frozen=True)
class Resumed:
    """``ended``, or being cancelled: there is nothing to resume. ``publish``: the queued branches, to be sent."""

    ended: bool
    was_paused: bool
    publish: tuple[str, ...]


class Control:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def pause(self, swarm_id: str, reason: str) -> bool:
        """No new step starts from now on. False where the swarm has ended or is to stop; pausing twice is once."""
        paused = Event(type=EventType.SWARM_PAUSED, at=time.time(), swarm=swarm_id, data={"reason": reason})
        arguments = (encode(paused), new_call_id(), reason)
        return bool(await self._gate.script("swarm_pause", (keys.SWARM(swarm_id),), arguments))

    async def resume(self, swarm_id: str) -> Resumed:
        """Let it go on; the answer says what is to be published."""
        was, *queued = await self._gate.script("swarm_resume", (keys.SWARM(swarm_id),), (new_call_id(),))
        return Resumed(ended=not was, was_paused=was == b"1", publish=tuple(raw.decode() for raw in queued))

    async def nudge(
        self, swarm_id: str, names: Sequence[str], first_seconds: float, longest_seconds: float
    ) -> Sequence[str]:
        """Those of the names that are due to be sent again: each at doubling intervals, once for all who ask."""
        if not names:
            return ()
        arguments: list[Word] = [new_call_id(), first_seconds, longest_seconds, *names]
        return [raw.decode() for raw in await self._gate.script("nudge", (keys.SWARM(swarm_id),), arguments)]
