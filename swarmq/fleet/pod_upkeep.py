"""Pods that nobody follows any more: removed when their stage has ended, and by age."""

from __future__ import annotations

from swarmq.fleet.runtime import Runtime

AGED_SECONDS = 8 * 24 * 3600.0
"""More than the longest time-out of a branch: none that anybody waits for is as old."""


async def remove_pods(runtime: Runtime, swarm_id: str, stage: int) -> None:
    """All of a stage whose branches have ended. Their supervisors may have died before they could."""
    await (await runtime.pod_access.get()).remove_residual(swarm_id, stage)


async def sweep_pods(runtime: Runtime) -> None:
    """What no end of a stage has reached."""
    await (await runtime.pod_access.get()).remove_aged(AGED_SECONDS)
