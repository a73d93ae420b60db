"""Holding a lease while working: renewed in the background, and the work stops when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import structlog

from swarmq.errors import LeaseLost, StoreError
from swarmq.fleet.runtime import Runtime

log = structlog.get_logger()

MOST_FAILURES = 5
"""A job that has failed so often in a row, or killed its worker, fails its swarm: each try may pay for a model call."""


class LeaseEnd(StrEnum):
    """Why a holder stops without an outcome."""

    LOST = "lost"
    CANCELLED = "cancelled"
    PARKED = "parked"
    """The swarm is paused."""


async def keep_alive(interval_seconds: float, renew: Callable[[], Awaitable[LeaseEnd | None]]) -> LeaseEnd:
    """Renew until there is a reason to stop; returns it."""
    while True:
        await asyncio.sleep(interval_seconds)
        end = await renew()
        if end is not None:
            return end


@asynccontextmanager
async def held_job(runtime: Runtime, swarm_id: str, name: str) -> AsyncIterator[int]:
    """Hold a named job of a swarm (plan, finish_stage:N, finish_swarm); yields how often it was claimed so far.

    Yields 0 where another holds it. Raises LeaseLost from within the block where another took it over. An exception
    releases the job, so that the next caller may try at once; the end of the block does not mark it done: what the job
    did is in the records that it wrote, and each of them is written once.
    """
    jobs, settings = runtime.store.jobs, runtime.settings
    claim = await jobs.claim(swarm_id, name, runtime.worker, settings.lease_seconds)
    if claim.status != "claimed":
        yield 0
        return
    if claim.took_over:
        await _failed(runtime, swarm_id, name, "its worker was lost")
    holder, lost = asyncio.current_task(), False

    async def beat() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(settings.heartbeat_seconds)
            try:
                await jobs.renew(swarm_id, name, claim.token, settings.lease_seconds)
            except StoreError as error:  # the next beat tells whether the job is still ours
                log.warning("job lease not renewed", swarm=swarm_id, job=name, error=str(error))
            except LeaseLost:
                log.warning("job lease lost", swarm=swarm_id, job=name)
                lost = True
                if holder is not None:
                    holder.cancel()
                return

    heartbeat = asyncio.create_task(beat())
    try:
        try:
            yield claim.token
        finally:
            heartbeat.cancel()
            await jobs.release(swarm_id, name, claim.token)
    except asyncio.CancelledError:
        if lost and holder is not None and holder.uncancel() == 0:
            raise LeaseLost(f"job {name} of swarm {swarm_id} has another holder") from None
        raise
    except (LeaseLost, StoreError):
        raise
    except Exception as error:  # whatever it is, it must not be repeated without end, and the swarm tells it
        await _failed(runtime, swarm_id, name, f"{type(error).__name__}: {error}")
        raise
    else:
        failures = await failures_of(runtime, swarm_id, name) if claim.token > 1 else 0
        await runtime.store.swarms.add(swarm_id, **{_counter(name): -failures})


async def failures_of(runtime: Runtime, swarm_id: str, name: str) -> int:
    """How often in a row the job has failed."""
    return int((await runtime.store.swarms.counters(swarm_id)).get(_counter(name), 0))


async def _failed(runtime: Runtime, swarm_id: str, name: str, why: str) -> None:
    await runtime.store.swarms.add(swarm_id, **{_counter(name): 1})
    if await failures_of(runtime, swarm_id, name) >= MOST_FAILURES:
        await runtime.store.swarms.set_error(swarm_id, f"{name} failed: {why}")


def _counter(name: str) -> str:
    return f"failures of {name}"
