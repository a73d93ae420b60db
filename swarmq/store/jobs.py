"""Named jobs of a swarm (plan, finish_stage:0, finish_swarm): one holder at a time, by the same leases as branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate


@dataclass(frozen=True)
class JobClaim:
    """``claimed``: the caller is the holder, by ``took_over`` after a silent one. ``missing``: no such swarm."""

    status: Literal["claimed", "held", "done", "missing"]
    token: int
    took_over: bool


@dataclass(frozen=True)
class JobStanding:
    """``held``: somebody holds it and is alive. ``token`` counts how often it was claimed."""

    held: bool
    token: int


class Jobs:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def claim(self, swarm_id: str, name: str, worker: str, lease_seconds: float) -> JobClaim:
        """Become the holder where nobody is; a job needs no record before."""
        arguments = (name, new_call_id(), worker, lease_seconds)
        status, token, took_over = await self._gate.script("job_claim", (keys.SWARM(swarm_id),), arguments)
        return JobClaim(status.decode(), token, bool(took_over))

    async def renew(self, swarm_id: str, name: str, token: int, lease_seconds: float) -> None:
        """Prolong the lease. LeaseLost where the caller is not the holder any more."""
        await self._gate.script("job_renew", (keys.SWARM(swarm_id),), (name, token, lease_seconds))

    async def release(self, swarm_id: str, name: str, token: int) -> None:
        """Afterwards the caller is not the holder, whatever it was before; another may claim at once."""
        await self._gate.script("job_release", (keys.SWARM(swarm_id),), (name, token))

    async def done(self, swarm_id: str, name: str, token: int) -> None:
        """Nobody can claim the job any more. LeaseLost where the caller is not the holder."""
        await self._gate.script("job_done", (keys.SWARM(swarm_id),), (name, token))

    async def look(self, swarm_id: str, name: str) -> JobStanding:
        """How the job stands, by the clock of Redis."""
        fields = ("HMGET", keys.JOBS(swarm_id), f"{name}:until", f"{name}:token")
        clock, (until, token) = await self._gate.batch([("TIME",), fields])
        return JobStanding(float(until or 0) > int(clock[0]) + int(clock[1]) / 1e6, int(token or 0))
