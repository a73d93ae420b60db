"""Who works on what right now: of equal work, one branch does it and the others wait for its result.

The branch that works leads the flight of its cache key, by a lease that it renews with its heartbeats. A leader that
dies lets the lease run out; one that ends gives it up. Either way the next to ask finds the result, or leads itself.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from swarmq.store import keys
from swarmq.store.cache import CachedResult
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import load
from swarmq.store.connection import Gate


@dataclass(frozen=True)
class Joined:
    """A ``result``; or a live ``leader`` to wait for, as swarm/branch; or neither: the caller leads."""

    result: CachedResult | None = None
    leader: str | None = None


class Flights:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def join(self, key: str, who: str, lease_seconds: float, *, waited: bool = False) -> Joined:
        """Find equal work that is done, or under way, or begin it as ``who`` (swarm/branch). SchemaError.

        Counts a hit, a miss where the caller becomes the leader, and a wait unless it has ``waited`` before.
        """
        names = (keys.CACHE(), keys.CACHE_AGES(), keys.CACHE_STATS(), keys.CACHE_ONCE(new_call_id()), keys.FLIGHT(key))
        arguments = (key, who, _ms(lease_seconds), "" if waited else "1")
        status, found = await self._gate.script("cache_join", names, arguments)
        if status == b"hit":
            return Joined(result=load(CachedResult, found, f"cached result {key}"))
        return Joined(leader=found.decode()) if status == b"wait" else Joined()

    async def lead(self, key: str, who: str, lease_seconds: float) -> bool:
        """Lead, or go on leading, where nobody else does. False: another leads, and both may well work on."""
        return bool(await self._gate.script("flight_lead", (keys.FLIGHT(key),), (who, _ms(lease_seconds))))

    async def leave(self, key: str, who: str) -> None:
        """Give up the lead and ring for those that wait; for anybody but the leader it does nothing."""
        await self._gate.script("flight_leave", (keys.FLIGHT(key),), (who,))

    def listen(self, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set when the leader leaves, and after each reconnection; not when it dies."""
        return self._gate.listen(keys.FLIGHT_CHANNEL % key)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
