"""A stage: its chord goes out, its branches end, their work is merged, and the next stage starts.

``finish_stage`` is the chord's body and its errback, and what the last branch and ``reconcile`` call: it reads records
only, does nothing until every branch has ended, and each of its sub-steps is recorded, so that a crash resumes there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import structlog

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import DiskFullError, EnvironmentFault, StoreError
from swarmq.fleet.claims import held_job
from swarmq.fleet.dispatch import branch_task_id
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchRecord, BranchSpec, Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import MergeReport, SubtaskResult, SubtaskStatus, SwarmRecord, SwarmState
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()

_STATUS = {
    Exit.COMPLETED: SubtaskStatus.SUCCEEDED,
    Exit.TIMED_OUT: SubtaskStatus.TIMED_OUT,
    Exit.CANCELLED: SubtaskStatus.CANCELLED,
}


def repository_of(runtime: Runtime, record: SwarmRecord) -> SwarmRepository | None:
    """The swarm's private clone; None for a task without files."""
    spec = record.spec
    if spec.repo is None or spec.base_commit is None:
        return None
    return SwarmRepository(runtime.settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)


def plan_of(record: SwarmRecord) -> Plan:
    if record.plan is None:
        raise LookupError(f"swarm {record.spec.id} has no plan yet")
    return record.plan


def runnable(
    stage: Iterable[Subtask], results: dict[str, SubtaskResult], plan: Plan
) -> tuple[list[Subtask], dict[str, str]]:
    """Which subtasks of a stage may run, and why the others are blocked (id -> reason). Pure."""
    by_name = {subtask.name: subtask.id for subtask in plan.subtasks}
    ready: list[Subtask] = []
    blocked: dict[str, str] = {}
    for subtask in stage:
        missing = [name for name in subtask.dependencies if not _succeeded(results.get(by_name[name]))]
        if missing:
            blocked[subtask.id] = f"blocked by {', '.join(missing)}"
        else:
            ready.append(subtask)
    return ready, blocked


def _succeeded(result: SubtaskResult | None) -> bool:
    return result is not None and result.success


async def start_stage(runtime: Runtime, swarm_id: str, stage: int) -> None:
    """Write the stage's records, then publish its chord. Published twice, the claims make it harmless."""
    store, dispatch = runtime.store, runtime.dispatch
    record = await store.swarms.load(swarm_id)
    if record.state.final or record.stage >= stage:
        return  # opened before: reconcile sends what of it was not published
    if record.paused_at and record.cancel_reason is None:
        return  # resuming sends this message again
    plan = plan_of(record)
    if record.cancel_reason is not None or record.error is not None or stage >= len(plan.stages):
        await finish(runtime, record)
        return
    ready, blocked = runnable(plan.stages[stage], record.results, plan)
    await store.swarms.put_results(
        swarm_id, {id_: unrun(plan.subtask(id_), stage, SubtaskStatus.BLOCKED, why) for id_, why in blocked.items()}
    )
    try:
        base = await _stage_base(runtime, record)
    except (StoreError, DiskFullError):  # says nothing of the swarm; reconcile has the stage started again
        raise
    except EnvironmentFault as error:
        await store.swarms.set_error(swarm_id, f"the private clone failed: {error}")
        await finish(runtime, record)
        return
    branches = [_first_branch(record, subtask, stage, base) for subtask in ready]
    reached(CrashPoint.STAGE_RECORDED)
    queued = await store.stages.open(swarm_id, stage, branches, record.spec.options.max_subagents)
    if queued:
        reached(CrashPoint.CHORD_PUBLISHED)
        await dispatch.stage(swarm_id, stage, queued)
    elif not branches:
        await dispatch.finish_stage(swarm_id, stage)


def _first_branch(record: SwarmRecord, subtask: Subtask, stage: int, base: str | None) -> BranchSpec:
    return BranchSpec(
        swarm_id=record.spec.id,
        id=subtask.id,
        subtask_id=subtask.id,
        stage=stage,
        kind=subtask.kind,
        base_commit=base,
        celery_task_id=branch_task_id(record.spec.id, subtask.id),
    )


async def _stage_base(runtime: Runtime, record: SwarmRecord) -> str | None:
    repository = repository_of(runtime, record)
    if repository is None:
        return None
    await repository.prepare()
    return await repository.integration_commit()


async def finish_stage(runtime: Runtime, swarm_id: str, stage: int) -> None:
    """Merge what the stage's branches left, record their results, and go on."""
    store = runtime.store
    state = await store.stages.load(swarm_id, stage)
    if state is None or set(state.branch_ids) - set(state.done_ids):
        return  # before claiming: whoever holds the claim has seen the stage complete, so no wake-up is lost
    async with held_job(runtime, swarm_id, f"finish_stage:{stage}") as held:
        if not held:
            return
        record = await store.swarms.load(swarm_id)
        if record.state.final:
            return
        state = await store.stages.load(swarm_id, stage)
        if state is not None and state.state != "finished":
            results = await _merge_branches(runtime, record, stage, state.merges)
            await store.swarms.put_results(swarm_id, results)
            await _share(runtime, swarm_id, stage, results)
            ended = [result for result in (record.results | results).values() if result.stage == stage]
            succeeded = sum(result.success for result in ended)
            reached(CrashPoint.STAGE_CLOSED)
            await store.stages.close(swarm_id, stage, succeeded, len(ended) - succeeded)
            if record.spec.options.placement == "pod":
                await runtime.dispatch.remove_pods(swarm_id, stage)
            log.info("stage closed", swarm=swarm_id, stage=stage, succeeded=succeeded, failed=len(ended) - succeeded)
    reached(CrashPoint.NEXT_SENT)
    await _go_on(runtime, swarm_id, stage)


async def _go_on(runtime: Runtime, swarm_id: str, stage: int) -> None:
    record = await runtime.store.swarms.load(swarm_id)
    failed = any(not result.success for result in record.results.values())
    stop = (
        record.cancel_reason is not None
        or record.error is not None
        or (failed and record.spec.options.on_failure == "stop")
    )
    if stop or stage + 1 >= len(plan_of(record).stages):
        await finish(runtime, record)
    else:
        await runtime.dispatch.start_stage(record.spec.id, stage + 1)


async def finish(runtime: Runtime, record: SwarmRecord) -> None:
    """Have the swarm ended. While a stage is open it does nothing: that stage's end calls it again."""
    stage = await runtime.store.stages.load(record.spec.id, record.stage) if record.stage >= 0 else None
    if stage is not None and stage.state != "finished":
        return
    running = {SwarmState.SUBMITTED, SwarmState.PLANNING, SwarmState.RUNNING}
    await runtime.store.swarms.set_state(record.spec.id, SwarmState.FINISHING, running)
    calls_model = record.spec.options.synthesize and record.cancel_reason is None and record.plan is not None
    await runtime.dispatch.finish_swarm(record.spec.id, calls_model=calls_model)


async def _merge_branches(
    runtime: Runtime, record: SwarmRecord, stage: int, merged: dict[str, MergeReport]
) -> dict[str, SubtaskResult]:
    """In plan order. A merge that is recorded is not done again; one that was done but not recorded is found by git."""
    repository = repository_of(runtime, record)
    latest = latest_branches(await runtime.store.branches.load_all(record.spec.id), stage)
    results: dict[str, SubtaskResult] = {}
    for subtask in plan_of(record).subtasks:
        branch = latest.get(subtask.id)
        if branch is None or branch.outcome is None:
            continue
        report = merged.get(branch.spec.id)
        if report is None and repository is not None and branch.outcome.commit is not None:
            report = await _merge(runtime, record, repository, branch, branch.outcome, subtask)
        results[subtask.id] = subtask_result(subtask, branch, branch.outcome, report)
    return results


async def _merge(
    runtime: Runtime,
    record: SwarmRecord,
    repository: SwarmRepository,
    branch: BranchRecord,
    outcome: Outcome,
    subtask: Subtask,
) -> MergeReport:
    swarm_id, branch_id = record.spec.id, branch.spec.id
    commit = outcome.commit
    if commit is None or not outcome.success or not record.spec.options.auto_merge or record.error is not None:
        return MergeReport(status="unmerged", commit=commit, files=outcome.files)
    reached(CrashPoint.MERGE_MADE)
    report = await repository.integrate(commit, message=f"Merge {subtask.name}")
    conflict = report.status == "conflict"
    data = (
        {"files": list(report.conflicts)}
        if conflict
        else {
            "commit": report.commit,
            "files": list(report.files),
            "insertions": report.insertions,
            "deletions": report.deletions,
        }
    )
    reached(CrashPoint.MERGE_RECORDED)
    await runtime.store.stages.record_merge(swarm_id, branch.spec.stage, branch_id, report)
    await runtime.store.events.emit(
        swarm_id,
        Event(
            type=EventType.CONFLICT if conflict else EventType.MERGED,
            at=time.time(),
            swarm=swarm_id,
            subtask=subtask.id,
            branch=branch_id,
            data=data,
        ),
    )
    await runtime.store.audit.append(swarm_id, "finish_stage", report.status, {"branch": branch_id})
    return report


def latest_branches(branches: Iterable[BranchRecord], stage: int | None = None) -> dict[str, BranchRecord]:
    """The newest branch of each subtask: a retried subtask's earlier branches do not count any more. Pure."""

    def number(branch: BranchRecord) -> int:
        return int(branch.spec.id.partition(".")[2] or 1)

    latest: dict[str, BranchRecord] = {}
    for branch in branches:
        known = latest.get(branch.spec.subtask_id)
        if (stage is None or branch.spec.stage == stage) and (known is None or number(known) < number(branch)):
            latest[branch.spec.subtask_id] = branch
    return latest


def subtask_result(
    subtask: Subtask, branch: BranchRecord, outcome: Outcome, merge: MergeReport | None
) -> SubtaskResult:
    """What became of a subtask, from its branch's outcome and its merge. Pure."""
    status = _STATUS.get(outcome.exit, SubtaskStatus.FAILED)
    error = outcome.error
    if merge is not None and merge.status == "conflict":
        status = SubtaskStatus.CONFLICT
        error = f"conflicts with what is merged already in {', '.join(merge.conflicts)}"
    return SubtaskResult(
        subtask_id=subtask.id,
        name=subtask.name,
        stage=branch.spec.stage,
        kind=subtask.kind,
        status=status,
        branch_id=branch.spec.id,
        text=outcome.text,
        error=error,
        fault=outcome.fault,
        steps=outcome.steps,
        tool_calls=outcome.tool_calls,
        retries=outcome.retries,
        usage=outcome.usage,
        cost_usd=outcome.cost_usd,
        duration_seconds=outcome.duration_seconds,
        merge=merge,
        worktree=outcome.worktree,
        cached=outcome.cached_from is not None,
        continued_from=outcome.continued_from,
        limit=outcome.limit,
    )


def unrun(subtask: Subtask, stage: int, status: SubtaskStatus, why: str) -> SubtaskResult:
    return SubtaskResult(
        subtask_id=subtask.id, name=subtask.name, stage=stage, kind=subtask.kind, status=status, error=why
    )


async def _share(runtime: Runtime, swarm_id: str, stage: int, results: dict[str, SubtaskResult]) -> None:
    for subtask_id, result in results.items():
        if result.success:
            tags = [f"stage:{stage}", f"subtask:{result.name}"]
            await runtime.store.shared.publish(swarm_id, subtask_id, result.branch_id or "", result.text, tags)


def has_files(kind: Kind) -> bool:
    """Whether branches of that kind get a worktree of their own."""
    return kind is not Kind.READ
