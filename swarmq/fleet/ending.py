"""Ending branches and swarms: cancelling, moving a stage on, and the last message to the producer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarmq.crash_points import CrashPoint, reached
from swarmq.fleet.dispatch import Dispatcher, branch_task_id
from swarmq.fleet.standing import Standing
from swarmq.models.branch import BranchState
from swarmq.models.swarm import SwarmState
from swarmq.orchestrator.scheduling import Move
from swarmq.store.store import Store


class Ended(Protocol):
    """What the scripts that end a branch answer: whether its stage is complete, and who may start now."""

    @property
    def advance(self) -> bool: ...
    @property
    def publish(self) -> Sequence[str]: ...


async def move_on(dispatch: Dispatcher, swarm_id: str, stage: int, ended: Ended) -> None:
    """After a branch ended: publish those that waited for its slot; after the stage's last one, finish the stage."""
    if ended.publish:
        reached(CrashPoint.SLOTS_SENT)
    await dispatch.branches(swarm_id, ended.publish)
    if ended.advance:
        reached(CrashPoint.FINISH_STAGE_SENT)
        await dispatch.finish_stage(swarm_id, stage)


async def cancel_branch(store: Store, dispatch: Dispatcher, swarm_id: str, branch_id: str, reason: str) -> bool:
    """Record first, revoke second. False where the branch had ended already."""
    cancelled = await store.branches.cancel(swarm_id, branch_id, reason)
    if cancelled.was is BranchState.DONE:
        return False
    if cancelled.was is BranchState.RUNNING:
        await dispatch.terminate([branch_task_id(swarm_id, branch_id)])
    branch = await store.branches.load(swarm_id, branch_id)
    await move_on(dispatch, swarm_id, branch.spec.stage, cancelled)
    return True


async def cancel_swarm(store: Store, dispatch: Dispatcher, swarm_id: str, reason: str) -> bool:
    """Mark the swarm, end what has not started, stop what runs. False where it had ended already."""
    if not await store.swarms.request_cancel(swarm_id, reason):
        return False
    reached(CrashPoint.CANCEL_SPREAD)
    running = []
    for branch in await store.branches.load_all(swarm_id):
        if branch.state is BranchState.DONE:
            continue
        cancelled = await store.branches.cancel(swarm_id, branch.spec.id, reason)
        if cancelled.was is BranchState.RUNNING:
            running.append(branch_task_id(swarm_id, branch.spec.id))
        await move_on(dispatch, swarm_id, branch.spec.stage, cancelled)
    reached(CrashPoint.REVOKE_SENT)
    await dispatch.terminate(running)
    await send_next(store, dispatch, swarm_id)  # finds the mark and finishes the swarm
    return True


async def send_next(store: Store, dispatch: Dispatcher, swarm_id: str) -> None:
    """The message that moves a swarm on which stands between two stages, before the first or after the last.

    A pause may have swallowed it; where nothing did, it finds everything done.
    """
    record = await store.swarms.load(swarm_id)
    match record.state:
        case SwarmState.SUBMITTED | SwarmState.PLANNING:
            await dispatch.plan(swarm_id)
        case SwarmState.FINISHING:
            calls_model = record.spec.options.synthesize and record.cancel_reason is None
            await dispatch.finish_swarm(swarm_id, calls_model=calls_model)
        case SwarmState.RUNNING:
            standing = await Standing.load(store, swarm_id, record)
            if standing.move is Move.OPEN:
                await dispatch.start_stage(swarm_id, standing.opening.stage)
            elif not standing.open_stages:
                await dispatch.finish_stage(swarm_id, record.stage)  # closed already: it only goes on
