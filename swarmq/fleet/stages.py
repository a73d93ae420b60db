"""A stage starts: its records are written, its chord goes out. settling.py has its end."""

from __future__ import annotations

from pathlib import Path

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import DiskFullError, EnvironmentFault, StoreError
from swarmq.fleet.dispatch import branch_task_id
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.standing import Standing
from swarmq.models.branch import BranchSpec
from swarmq.models.plan import Subtask
from swarmq.models.swarm import SubtaskStatus, SwarmRecord, SwarmState
from swarmq.orchestrator.racing import candidates
from swarmq.orchestrator.results import unrun
from swarmq.orchestrator.scheduling import Move
from swarmq.workspace.swarm_repository import SwarmRepository


def repository_of(runtime: Runtime, record: SwarmRecord) -> SwarmRepository | None:
    """The swarm's private clone; None for a task without files."""
    spec = record.spec
    if spec.repo is None or spec.base_commit is None:
        return None
    return SwarmRepository(runtime.settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)


async def start_stage(runtime: Runtime, swarm_id: str) -> None:
    """Start what may start, as the next stage. A message that comes twice finds it started."""
    record = await runtime.store.swarms.load(swarm_id)
    if record.state.final or (record.paused_at and record.cancel_reason is None):
        return  # resuming sends this message again
    standing = await Standing.load(runtime.store, swarm_id, record)
    if standing.move is Move.OPEN:
        await _open(runtime, standing)
    else:
        await go_on(runtime, standing)


async def _open(runtime: Runtime, standing: Standing) -> None:
    """Write the stage's records, then publish its chord. Published twice, the claims make it harmless."""
    store, record, opening = runtime.store, standing.record, standing.opening
    swarm_id, options, plan = record.spec.id, record.spec.options, standing.plan
    if opening.blocked:
        blocked = {
            id_: unrun(plan.subtask(id_), opening.stage, SubtaskStatus.BLOCKED, why)
            for id_, why in opening.blocked.items()
        }
        await store.swarms.put_results(swarm_id, blocked)
    if not opening.ready:  # nothing of it can run: look what is behind it
        await go_on(runtime, await Standing.load(store, swarm_id))
        return
    try:
        base = await _base(runtime, record)
    except (StoreError, DiskFullError):  # says nothing of the swarm; reconcile has the stage started again
        raise
    except EnvironmentFault as error:
        await store.swarms.set_error(swarm_id, f"the private clone failed: {error}")
        await go_on(runtime, await Standing.load(store, swarm_id))
        return
    branches = [spec for subtask in opening.ready for spec in _branches(record, subtask, opening.stage, base)]
    reached(CrashPoint.STAGE_RECORDED)
    queued = await store.stages.open(swarm_id, opening.stage, branches, options.max_subagents, eager=options.eager)
    if queued:
        reached(CrashPoint.CHORD_PUBLISHED)
        await runtime.dispatch.stage(swarm_id, opening.stage, queued)


def _branches(record: SwarmRecord, subtask: Subtask, stage: int, base: str | None) -> list[BranchSpec]:
    """The subtask's branch, or the candidates of its race."""
    return [
        BranchSpec(
            swarm_id=record.spec.id,
            id=one.branch_id,
            subtask_id=subtask.id,
            stage=stage,
            kind=subtask.kind,
            base_commit=base,
            celery_task_id=branch_task_id(record.spec.id, one.branch_id),
            candidate=one.number,
            approach=one.approach,
            model=one.model,
        )
        for one in candidates(subtask, record.spec.options)
    ]


async def _base(runtime: Runtime, record: SwarmRecord) -> str | None:
    repository = repository_of(runtime, record)
    if repository is None:
        return None
    await repository.prepare()
    return await repository.integration_commit()


async def go_on(runtime: Runtime, standing: Standing) -> None:
    """Send the message for what comes next, where nothing that is open will."""
    match standing.move:
        case Move.OPEN:
            await runtime.dispatch.start_stage(standing.record.spec.id, standing.opening.stage)
        case Move.FINISH:
            await finish(runtime, standing.record)
        case Move.WAIT:
            pass


async def finish(runtime: Runtime, record: SwarmRecord) -> None:
    """Have the swarm ended. While a stage is open it does nothing: that stage's end calls it again."""
    stages = await runtime.store.stages.load_all(record.spec.id, record.stage)
    if any(stage.state != "finished" for stage in stages):
        return
    running = {SwarmState.SUBMITTED, SwarmState.PLANNING, SwarmState.RUNNING}
    await runtime.store.swarms.set_state(record.spec.id, SwarmState.FINISHING, running)
    calls_model = record.spec.options.synthesize and record.cancel_reason is None and record.plan is not None
    await runtime.dispatch.finish_swarm(record.spec.id, calls_model=calls_model)
