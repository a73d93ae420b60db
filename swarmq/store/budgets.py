"""Budgets of a swarm for calls that no branch makes. Those of branches go with their records (transcripts.record)."""

from __future__ import annotations

from swarmq.models.messages import Usage
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate
from swarmq.store.transcripts import Recorded, Reservation


class Budgets:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def reserve(self, swarm_id: str, job: str, expected: Reservation) -> Recorded:
        """Take a call from the budgets; a second reservation of the same job replaces its first."""
        arguments = (job, expected.tokens, expected.nano_usd)
        limit, hold = await self._gate.script("budget_reserve", (keys.SWARM(swarm_id),), arguments)
        return Recorded(limit.decode() or None, None, "budget" if hold else None)

    async def settle(self, swarm_id: str, job: str, usage: Usage, nano_usd: int | None) -> None:
        """Count what the job's calls have used, and give back what was reserved; None: the price is not known."""
        deltas = {**usage.model_dump(), "cost_nano_usd": nano_usd or 0, "unpriced_calls": int(nano_usd is None)}
        flat = [word for name, delta in deltas.items() if delta for word in (name, delta)]
        await self._gate.script("budget_settle", (keys.SWARM(swarm_id),), (job, new_call_id(), *flat))

    async def lapse(self, swarm_id: str, branch_id: str) -> bool:
        """Give back what a branch has reserved whose lease has run out; False where somebody holds it."""
        return bool(await self._gate.script("budget_lapse", (keys.SWARM(swarm_id),), (branch_id,)))
