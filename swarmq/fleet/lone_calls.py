"""Model calls that no branch makes (plan, synthesis), and what stops them: a cancel, or a pause before the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarmq.fleet.runtime import Runtime
from swarmq.providers.limiter import Caller

T = TypeVar("T")


class Stopped(Exception):
    """The swarm was cancelled, or paused before the call was made. Resuming sends the job's message again."""


async def unless_stopped(runtime: Runtime, swarm_id: str, work: Callable[[Caller], Awaitable[T]]) -> T:
    """What the work returns, which makes its calls as the caller that it gets. Raises Stopped.

    A cancel aborts the call. In a pause one that waits for a permit is not made, one that runs is finished.
    """
    waits = False

    async def waiting(endpoint: str, reason: str) -> None:
        nonlocal waits
        waits = True

    async def calling(seconds: float) -> None:
        nonlocal waits
        waits = False

    async def marked() -> None:
        while True:
            record = await runtime.store.swarms.load(swarm_id)
            if record.cancel_reason is not None or (record.paused_at and waits):
                return
            await asyncio.sleep(runtime.settings.heartbeat_seconds)

    async def run() -> T:
        return await work(Caller(swarm_id, waiting, calling))

    working, watching = asyncio.create_task(run()), asyncio.create_task(marked())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        watching.result()
        raise Stopped
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
