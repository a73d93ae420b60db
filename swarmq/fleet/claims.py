"""Holding a lease while working: renewed in the background, and the work stops when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import structlog

from swarmq.errors import LeaseLost
from swarmq.fleet.runtime import Runtime

log = structlog.get_logger()


class LeaseEnd(StrEnum):
    """Why a heartbeat gave up."""

    LOST = "lost"
    CANCELLED = "cancelled"


async def keep_alive(
    interval_seconds: float, renew: Callable[[], Awaitable[tuple[bool, str | None]]]
) -> tuple[LeaseEnd, str]:
    """Renew until the lease is lost or the record is marked cancelled; returns which, with the reason."""
    while True:
        await asyncio.sleep(interval_seconds)
        alive, cancel_reason = await renew()
        if not alive:
            return LeaseEnd.LOST, "another worker took over"
        if cancel_reason is not None:
            return LeaseEnd.CANCELLED, cancel_reason


@asynccontextmanager
async def held_job(runtime: Runtime, swarm_id: str, name: str) -> AsyncIterator[bool]:
    """Hold a named job of a swarm (plan, finish_stage:N, finish_swarm); yields False where another holds it.

    An exception releases the job, so that the next caller may try at once; the end of the block does not mark it
    done: what the job did is in the records that it wrote, and each of them is written once.
    """
    jobs, settings = runtime.store.jobs, runtime.settings
    claim = await jobs.claim(swarm_id, name, runtime.worker, settings.lease_seconds)
    if claim.status != "claimed":
        yield False
        return
    holder = asyncio.current_task()

    async def beat() -> None:
        while True:
            await asyncio.sleep(settings.heartbeat_seconds)
            try:
                await jobs.renew(swarm_id, name, claim.token, settings.lease_seconds)
            except LeaseLost:
                log.warning("job lease lost", swarm=swarm_id, job=name)
                if holder is not None:
                    holder.cancel()
                return

    heartbeat = asyncio.create_task(beat())
    try:
        yield True
    finally:
        heartbeat.cancel()
        await jobs.release(swarm_id, name, claim.token)
