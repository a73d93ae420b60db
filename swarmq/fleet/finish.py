"""``swarmq.finish_swarm``: the result branch, the report, the figures; then the producer's canvas goes on."""

from __future__ import annotations

import time

import structlog

from swarmq.agent.assignment import Parked
from swarmq.agent.context import text_tokens
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import DiskFullError, EnvironmentFault, ModelError, StoreError, UsageError, WorkspaceError
from swarmq.fleet.baselines import find_baseline, keep_baseline
from swarmq.fleet.claims import held_job
from swarmq.fleet.lone_calls import Stopped, unless_stopped
from swarmq.fleet.paid_model import LimitReached, PaidModel
from swarmq.fleet.planning import model_of
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import repository_of
from swarmq.models.branch import kept_worktrees
from swarmq.models.swarm import SubtaskResult, SubtaskStatus, SwarmRecord, SwarmResult, SwarmState
from swarmq.orchestrator.report import render_report
from swarmq.orchestrator.results import unrun
from swarmq.orchestrator.stats import swarm_stats
from swarmq.orchestrator.synthesize import synthesize

log = structlog.get_logger()


async def finish_swarm(runtime: Runtime, swarm_id: str) -> None:
    """Once per swarm, however often it is called. A producer is told again only if we died while telling it."""
    store = runtime.store
    async with held_job(runtime, swarm_id, "finish_swarm") as held:
        if not held:
            return
        record = await store.swarms.load(swarm_id)
        ends_here = not record.state.final
        if not ends_here and not record.canvases:
            return
        if ends_here and record.paused_at and record.spec.options.synthesize and record.cancel_reason is None:
            return  # the synthesis is a model call; resuming sends this message again
        if ends_here:
            try:
                record = await _end(runtime, record)
            except Parked:
                return  # as above
        while record.canvases:  # others may come while these are told (idempotency key)
            for canvas in record.canvases:
                reached(CrashPoint.VALUE_SENT)
                if not await runtime.dispatch.deliver(swarm_id, canvas):
                    return  # reconcile sends this message again until all are told
                await store.swarms.told(swarm_id, canvas["task_id"])
            record = await store.swarms.load(swarm_id)
        await _clean(runtime, record)


async def _end(runtime: Runtime, record: SwarmRecord) -> SwarmRecord:
    """Write the result; again, where the swarm was cancelled in the meantime: a cancel that was accepted counts."""
    swarm_id = record.spec.id
    while not record.state.final:
        result = await _result(runtime, record)
        reached(CrashPoint.SWARM_ENDED)
        if await runtime.store.swarms.finish(swarm_id, result):
            log.info("swarm ended", swarm=swarm_id, state=result.state.value, error=result.error)
            await keep_baseline(runtime, record, result)
        record = await runtime.store.swarms.load(swarm_id)  # a producer may have joined meanwhile (idempotency key)
    return record


def ordered_results(record: SwarmRecord) -> tuple[SubtaskResult, ...]:
    """Every subtask of the plan in plan order; those that never ran say why. Pure."""
    if record.plan is None:
        return ()
    cancelled = record.cancel_reason is not None
    status = SubtaskStatus.CANCELLED if cancelled else SubtaskStatus.BLOCKED
    why = f"cancelled: {record.cancel_reason}" if cancelled else record.error or "not run: an earlier subtask failed"
    return tuple(
        record.results.get(subtask.id) or unrun(subtask, record.plan.depths[subtask.name], status, why)
        for subtask in record.plan.subtasks
    )


def final_state(record: SwarmRecord, results: tuple[SubtaskResult, ...]) -> SwarmState:
    """Success only if every subtask succeeded; partial if some did. Pure."""
    if record.cancel_reason is not None:
        return SwarmState.CANCELLED
    succeeded = sum(result.success for result in results)
    if record.error is None and results and succeeded == len(results):
        return SwarmState.SUCCEEDED
    return SwarmState.PARTIAL if succeeded else SwarmState.FAILED


async def _result(runtime: Runtime, record: SwarmRecord) -> SwarmResult:
    store, spec = runtime.store, record.spec
    results, error = ordered_results(record), record.error
    state = final_state(record, results)
    branch = commit = answer = None
    repository = repository_of(runtime, record)
    if repository is not None and record.plan is not None:
        try:
            reached(CrashPoint.RESULT_BRANCH_WRITTEN)
            published = await repository.publish()
            branch, commit = published if published is not None else (None, None)
        except EnvironmentFault as failure:
            if isinstance(failure, StoreError | DiskFullError) and error is None:
                raise  # may pass: reconcile has the swarm finished again, until that has failed too often
            state, error = SwarmState.FAILED, f"the result branch could not be written: {failure}"
    if spec.options.synthesize and state in (SwarmState.SUCCEEDED, SwarmState.PARTIAL):
        answer, error = await _synthesis(runtime, record, results, error)
    stats = swarm_stats(
        record,
        results,
        await store.stages.load_all(spec.id, record.stage),
        await store.swarms.counters(spec.id),
        time.time(),
        await find_baseline(runtime, record),
    )
    limits = [limit for limit in (record.limit, *(result.limit for result in results)) if limit]
    result = SwarmResult(
        id=spec.id,
        state=state,
        report="",
        error=error,
        limit=limits[0] if limits else None,
        subtasks=results,
        stats=stats,
        branch=branch,
        commit=commit,
        base_branch=spec.base_branch,
        answer=answer,
    )
    return result.model_copy(update={"report": render_report(record, result)})


async def _synthesis(
    runtime: Runtime, record: SwarmRecord, results: tuple[SubtaskResult, ...], error: str | None
) -> tuple[str | None, str | None]:
    """One answer over all results. Its failure is told, and does not make finished work fail."""
    prompt_tokens = sum(text_tokens(result.text) for result in results)
    try:
        model_spec = record.spec.options.planner_model or model_of(runtime, record)
        opened = await runtime.models.open(model_spec)
        model = PaidModel(opened, runtime, record.spec.id, "finish_swarm", model_spec, prompt_tokens)
        answer, _ = await unless_stopped(
            runtime, record.spec.id, lambda caller: synthesize(model, record.spec, results, caller=caller)
        )
    except Stopped:
        if (await runtime.store.swarms.load(record.spec.id)).cancel_reason is None:
            raise Parked from None
        return None, error  # the result is made again, as a cancelled swarm's
    except StoreError:  # says nothing of the synthesis; reconcile has the swarm finished again
        raise
    except (LimitReached, ModelError, UsageError, EnvironmentFault) as failure:  # no key, no such endpoint
        return None, error or f"the synthesis failed: {failure}"
    return answer, error


async def _clean(runtime: Runtime, record: SwarmRecord) -> None:
    """Worktrees go with the swarm: those of readers and of lost holders. Failed branches and losers keep theirs."""
    repository = repository_of(runtime, record)
    if repository is None:
        return
    try:
        kept = kept_worktrees(await runtime.store.branches.load_all(record.spec.id))
        await repository.remove_worktrees(kept)
    except WorkspaceError as error:
        log.warning("cleaning up left something behind, gc will try again", swarm=record.spec.id, error=str(error))
