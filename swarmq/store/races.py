"""Races: who won each. The first word stays, whoever says it: a branch that passed verify, or who compared scores."""

from __future__ import annotations

from typing import Literal

from swarmq.models.base import Record
from swarmq.store import keys
from swarmq.store.codec import load, pairs
from swarmq.store.connection import Gate

RaceReason = Literal["verify", "score"]


class Race(Record):
    """The end of a race. ``at`` is Unix seconds by the clock of Redis."""

    winner: str
    by: RaceReason
    at: float


class Races:
    """Races of a swarm, by subtask id. The first branch that ends verified wins within ``Branches.finish``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def load(self, swarm_id: str) -> dict[str, Race]:
        """Those that are decided. SchemaError."""
        found = pairs(await self._gate.call("HGETALL", keys.RACES(swarm_id)))
        return {name: load(Race, raw, f"race for {name} of swarm {swarm_id}") for name, raw in found.items()}

    async def decide(self, swarm_id: str, subtask_id: str, winner: str) -> Race:
        """Let a branch win by its score, where nobody has won yet; the race as it ended. NotFoundError."""
        raw = await self._gate.script("race_decide", (keys.SWARM(swarm_id),), (subtask_id, winner))
        return load(Race, raw, f"race for {subtask_id} of swarm {swarm_id}")
