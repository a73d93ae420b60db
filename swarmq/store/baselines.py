"""What one agent alone needed for a task, for a month: swarms that do the same task are compared with it."""

from __future__ import annotations

from swarmq.models.swarm import Baseline
from swarmq.store import keys
from swarmq.store.codec import dump, load
from swarmq.store.connection import Gate

KEPT_SECONDS = 30 * 86_400


class Baselines:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def keep(self, key: str, baseline: Baseline) -> None:
        """A newer one replaces the older."""
        await self._gate.call("SET", keys.BASELINE(key), dump(baseline), "EX", KEPT_SECONDS)

    async def find(self, key: str) -> Baseline | None:
        """SchemaError."""
        raw = await self._gate.call("GET", keys.BASELINE(key))
        return None if raw is None else load(Baseline, raw, f"baseline {key}")
