"""What the collapse controller keeps between its looks: the lock, its state by swarm, and what it found."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swarmq.models.collapse import CollapseState, Kill, ScoreEntry
from swarmq.models.events import Event
from swarmq.store import keys
from swarmq.store.audit import AuditEntry
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import check_version, dump, load
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.line import Word

SCORES_KEPT = 2_000
"""Per swarm, about: looks that found something new."""
_ACTOR, _ACTION = "collapse", "kill"


@dataclass(frozen=True)
class Remembered:
    """``looks``: how many were made; a look counts only if it is the next one."""

    looks: int
    state: CollapseState


class Collapse:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @asynccontextmanager
    async def lock(self, lease_seconds: float) -> AsyncIterator[bool]:
        """Yields whether the caller alone may look now. Who dies with the lock keeps others out for the lease."""
        caller = new_call_id()
        lease_ms = max(1, round(lease_seconds * 1000))
        taken = bool(await self._gate.script("lock_take", (keys.COLLAPSE_LOCK(),), (caller, lease_ms)))
        try:
            yield taken
        finally:
            if taken:
                await self._gate.script("lock_drop", (keys.COLLAPSE_LOCK(),), (caller,))

    async def recall(self, swarm_id: str) -> Remembered:
        """What the last look left; a beginning where there was none. SchemaError."""
        version, looks, raw = await self._gate.call("HMGET", keys.COLLAPSE(swarm_id), "v", "looks", "state")
        if raw is None:
            return Remembered(0, CollapseState())
        what = f"collapse of swarm {swarm_id}"
        check_version(version, what)
        return Remembered(int(looks), load(CollapseState, raw, what))

    async def decide(
        self,
        swarm_id: str,
        looks: int,
        state: CollapseState,
        entry: ScoreEntry | None,
        kills: Sequence[tuple[Kill, Event]],
    ) -> Sequence[str] | None:
        """Keep the state, and mark the branches to be stopped, each with its event and an audit entry.

        Returns those that were marked now: they run, and nobody had cancelled them. None where another look was made
        since ``recall``, or the swarm is to stop or paused: then nothing was decided. NotFoundError.
        """
        flat: list[Word] = []
        for kill, event in kills:
            detail = {"branch": kill.branch_id, "reason": kill.reason, "score": round(kill.score, 4)}
            audit = AuditEntry(at=time.time(), actor=_ACTOR, action=_ACTION, detail=detail)
            flat += [kill.branch_id, kill.reason, encode(event), dump(audit)]
        written = dump(entry) if entry is not None else ""
        arguments: list[Word] = [looks, new_call_id(), dump(state), written, SCORES_KEPT, *flat]
        status, *marked = await self._gate.script("collapse_decide", (keys.SWARM(swarm_id),), arguments)
        return None if status == b"stale" else [raw.decode() for raw in marked]

    async def scores(self, swarm_id: str) -> list[ScoreEntry]:
        """What the looks found, oldest first. SchemaError."""
        entries = await self._gate.call("XRANGE", keys.SCORES(swarm_id), "-", "+")
        return [load(ScoreEntry, raw, f"scores {raw_id.decode()}") for raw_id, (_, raw) in entries]
