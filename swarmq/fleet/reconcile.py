"""``swarmq.reconcile``: finds what stands still and sends its message again. Any number of copies may run at once.

Recovery has one path: the ordinary message, through the ordinary claim. Nothing is worked on here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from swarmq.errors import StoreError
from swarmq.fleet.dispatch import branch_task_id
from swarmq.fleet.ending import cancel_branch
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import finish, plan_of
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.swarm import SwarmRecord, SwarmState
from swarmq.store.stages import StageRecord

log = structlog.get_logger()


@dataclass(frozen=True)
class Stuck:
    """What one look at a swarm found. ``send`` are branches whose message is to be sent again."""

    send: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    finish_stage: bool = False


def find_stuck(stage: StageRecord, branches: list[BranchRecord], now: float, patience_seconds: float) -> Stuck:
    """Expired leases, messages that nobody claimed, marks that nobody saw, a stage whose end nobody noticed. Pure."""
    members = [branch for branch in branches if branch.spec.stage == stage.stage]
    send, stop = [], []
    for branch in members:
        running, queued = branch.state is BranchState.RUNNING, branch.state is BranchState.QUEUED
        if (running and branch.lease_until < now) or (queued and branch.queued_at + patience_seconds < now):
            send.append(branch.spec.id)
        elif running and branch.cancel_reason is not None:
            stop.append(branch.spec.id)
    over = all(branch.state is BranchState.DONE for branch in members)
    return Stuck(tuple(send), tuple(stop), over and stage.state != "finished")


async def reconcile(runtime: Runtime) -> int:
    """Look at every unfinished swarm; returns how many messages were sent again."""
    sent = 0
    for swarm_id in await runtime.store.swarms.active():
        try:
            record = await runtime.store.swarms.load(swarm_id)
            sent += await _reconcile_swarm(runtime, record)
        except StoreError:
            raise
        except Exception:  # one unreadable or deleted swarm must not keep the others from their recovery
            log.exception("swarm not looked at", swarm=swarm_id)
    await runtime.store.health.ticked(runtime.settings.reconcile_seconds)
    return sent


async def _reconcile_swarm(runtime: Runtime, record: SwarmRecord) -> int:
    store, dispatch, settings = runtime.store, runtime.dispatch, runtime.settings
    swarm_id, now = record.spec.id, await store.now()
    patient = record.spec.created_at + settings.queue_patience_seconds > time.time()
    if record.state in (SwarmState.SUBMITTED, SwarmState.PLANNING):
        if patient or await store.jobs.held(swarm_id, "plan"):
            return 0
        await dispatch.plan(swarm_id)
        return 1
    if record.state is SwarmState.FINISHING or record.state.final:  # final: its producers are still to be told
        just_ended = record.finished_at + settings.queue_patience_seconds > now
        if (record.state.final and just_ended) or await store.jobs.held(swarm_id, "finish_swarm"):
            return 0
        await dispatch.finish_swarm(swarm_id, calls_model=record.spec.options.synthesize and not record.state.final)
        return 1
    if record.state is not SwarmState.RUNNING:
        return 0
    number = max(record.stage, 0)
    stage = await store.stages.load(swarm_id, number)
    if stage is None:
        await dispatch.start_stage(swarm_id, number)
        return 1
    return await _reconcile_stage(runtime, record, stage, now)


async def _reconcile_stage(runtime: Runtime, record: SwarmRecord, stage: StageRecord, now: float) -> int:
    store, dispatch, settings = runtime.store, runtime.dispatch, runtime.settings
    swarm_id = record.spec.id
    branches = await store.branches.load_all(swarm_id)
    stuck = find_stuck(stage, branches, now, settings.queue_patience_seconds)
    if record.cancel_reason is not None:
        for branch in branches:
            if branch.state is not BranchState.DONE and branch.cancel_reason is None:
                await cancel_branch(store, dispatch, swarm_id, branch.spec.id, record.cancel_reason)
    for branch_id in stuck.send:
        log.warning("branch stands still, sending its message again", swarm=swarm_id, branch=branch_id)
        await store.branches.touch_queued(swarm_id, branch_id)
    await dispatch.branches(swarm_id, stuck.send)
    await dispatch.terminate([branch_task_id(swarm_id, branch_id) for branch_id in stuck.stop])
    sent = len(stuck.send)
    if stage.state == "finished":
        sent += await _next_stage(runtime, record, stage)
    elif stuck.finish_stage and not await store.jobs.held(swarm_id, f"finish_stage:{stage.stage}"):
        await dispatch.finish_stage(swarm_id, stage.stage)
        sent += 1
    return sent


async def _next_stage(runtime: Runtime, record: SwarmRecord, stage: StageRecord) -> int:
    """The stage is closed, but its successor's message or the end of the swarm got lost."""
    if stage.finished_at + runtime.settings.queue_patience_seconds > await runtime.store.now():
        return 0
    if stage.stage + 1 >= len(plan_of(record).stages) or record.cancel_reason is not None:
        await finish(runtime, record)
    else:
        await runtime.dispatch.finish_stage(record.spec.id, stage.stage)  # closed already: it only goes on
    return 1
