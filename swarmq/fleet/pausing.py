"""Pausing a swarm and letting it go on: a mark in its record, which every claim and every reserved step looks at."""

from __future__ import annotations

from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import send_next
from swarmq.store.store import Store


async def pause_swarm(store: Store, swarm_id: str, reason: str) -> bool:
    """No new step starts from now on; calls and tools that run are finished.

    False where the swarm has ended or is being cancelled.
    """
    paused = await store.control.pause(swarm_id, reason)
    if paused:
        await store.audit.append(swarm_id, "user", "pause", {"reason": reason})
    return paused


async def resume_swarm(store: Store, dispatch: Dispatcher, swarm_id: str) -> bool:
    """Go on where it stood. False as for a pause. Dying before the messages are out is mended by reconcile."""
    resumed = await store.control.resume(swarm_id)
    if resumed.ended:
        return False
    if resumed.was_paused:
        await store.audit.append(swarm_id, "user", "resume", {})
    await dispatch.branches(swarm_id, resumed.publish)
    await send_next(store, dispatch, swarm_id)
    return True
