"""The pods of the whole fleet: at most a budget of them at once, in fair order between swarms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from swarmq.errors import StoreError
from swarmq.store import keys
from swarmq.store.connection import Gate

log = structlog.get_logger()

PERMIT_SECONDS, KEEP_SECONDS = 60.0, 15.0
"""A permit is good for so long, and is renewed so often: longer than a branch whose worker died waits for another."""
LOOK_SECONDS = 2.0
"""How often who waits asks without being rung."""


@dataclass(frozen=True)
class PodCounts:
    held: int
    waiting: int


class PodBudget:
    """As this process sees it. Belongs to one event loop, as its gate does."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._held: set[PodPermit] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def acquire(
        self,
        swarm_id: str,
        branch_id: str,
        token: int,
        budget: int,
        on_wait: Callable[[int], Awaitable[None]] | None = None,
    ) -> PodPermit:
        """Wait until the branch may have a pod. ``token`` is its fencing token: an earlier one's permit is taken over
        at once, and LeaseLost is raised to one who comes late.

        ``on_wait`` is told the place in the queue, once, where there is no permit at once.
        """
        permit = PodPermit(self, f"{swarm_id}/{branch_id}", token)
        granted = False
        try:
            place = await self._ask(permit, swarm_id, budget)
            if place and on_wait is not None:
                await on_wait(place)
            if place:
                async with self._gate.listen(keys.PODS_CHANNEL) as bell:
                    while await self._ask(permit, swarm_id, budget):
                        await _rung(bell)
            granted = True
        finally:
            if not granted:
                await permit.release()
        self._held.add(permit)
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return permit

    async def counts(self) -> PodCounts:
        held, waiting = await self._gate.script("pods_counts", _KEYS, ())
        return PodCounts(held, waiting)

    async def _ask(self, permit: PodPermit, swarm_id: str, budget: int) -> int:
        arguments = (permit.ticket, permit.token, swarm_id, budget, PERMIT_SECONDS)
        return int(await self._gate.script("pods_ask", _KEYS, arguments))

    async def give_back(self, permit: PodPermit) -> None:
        self._held.discard(permit)
        try:
            await self._gate.script("pods_release", _KEYS, (permit.ticket, permit.token))
        except StoreError as error:  # it expires by itself
            log.warning("a pod's permit could not be given back", ticket=permit.ticket, error=str(error))

    async def _keep(self) -> None:
        """Renew the permits of this process until it has none."""
        try:
            while self._held:
                await asyncio.sleep(KEEP_SECONDS)
                tickets = [permit.ticket for permit in self._held]
                try:
                    await self._gate.script("pods_keep", _KEYS, (PERMIT_SECONDS, *tickets))
                except StoreError as error:  # they may expire, and a few pods too many start
                    log.warning("the permits of pods were not renewed", error=str(error))
        finally:
            self._keeper = None

    async def aclose(self) -> None:
        """Stop renewing, and give nothing back: pods outlive their worker. Before the gate is closed."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)


class PodPermit:
    """One branch's place among the pods that run."""

    def __init__(self, budget: PodBudget, ticket: str, token: int) -> None:
        self.ticket, self.token = ticket, token
        self._budget = budget

    async def release(self) -> None:
        """When its pod is gone. A second time does nothing."""
        await self._budget.give_back(self)


async def _rung(bell: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await bell.wait()
    except TimeoutError:
        return
    bell.clear()


_KEYS = [key() for key in keys.PODS]
