"""The workers that report, with some patience for those that have only just been started."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from swarmq.cli.fleet_checks import unserved

if TYPE_CHECKING:
    from swarmq.client import AsyncClient
    from swarmq.devstack import StackStatus
    from swarmq.settings import Settings

FRESH_SECONDS = 10.0
"""A worker of the embedded stack that is younger than this may be alive and not have reported yet."""
_POLL_SECONDS = 0.05


async def reported(client: AsyncClient, settings: Settings) -> list[dict[str, Any]]:
    """The workers that are alive. Waits for a first report where an embedded stack, or a worker of it, is fresh."""
    from swarmq import devstack

    deadline = time.monotonic() + FRESH_SECONDS
    while True:
        found = list(await client.workers())
        missing = unserved(found)
        if not missing or settings.broker() is not None or time.monotonic() > deadline:
            return found
        if not fresh(devstack.status(settings), missing):
            return found
        await asyncio.sleep(_POLL_SECONDS)


def fresh(stack: StackStatus, missing: list[str]) -> bool:
    """Whether the workers of these queues may be alive although they have not reported: they, or all, just started."""
    if not stack.running:
        return False
    young = {process.name for process in stack.processes if process.uptime_seconds < FRESH_SECONDS}
    return stack.uptime_seconds < FRESH_SECONDS or not young.isdisjoint(missing)
