"""``swarmq.run_branch``: claim the branch, work under its lease, end it exactly once.

The work runs in a child task, so that whoever stops it (the pool, the heartbeat) can wait for its clean-up before the
record is written. What may stop it, and what follows:

========================  =========================================================================
the pool, by a revoke      the branch ends as cancelled
the pool, at a shutdown    the step under way may end, and is recorded, within ``handover_seconds``;
                           checkpoint, lease released, message back on the queue (JobStopped)
a prefork child's SIGTERM  the branch ends as cancelled where it is marked, else as at a shutdown
the heartbeat, by a mark   the branch ends as cancelled
the heartbeat, lease lost  nothing is written any more: the new holder owns the record
the swarm is paused        checkpoint, lease released; resuming the swarm publishes the branch again
========================  =========================================================================
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from swarmq.agent.narration import branch_event
from swarmq.agent.ports import BETWEEN_CALLS
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import LeaseLost, SwarmqError
from swarmq.fleet.claims import LeaseEnd, keep_alive
from swarmq.fleet.ending import move_on
from swarmq.fleet.giving_up import given_up
from swarmq.fleet.observing import LOOK_PATIENCE_SECONDS
from swarmq.fleet.pool import Job, StopReason
from swarmq.fleet.racing import stop_losers
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.work import Work, work_for
from swarmq.models.branch import BranchSpec, Outcome
from swarmq.models.events import EventType
from swarmq.store.branches import Claim, Renewal

log = structlog.get_logger()
T = TypeVar("T")

UNACKED_INDEX = "unacked_index"
"""kombu's set of delivered messages, by time; a running branch keeps its own message from coming back."""


class Stops:
    """Whether the pool has cancelled this task. What is ``shielded`` is finished first: no record is left half way."""

    def __init__(self) -> None:
        self.requested = False

    async def shielded(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():
                    raise
                self.requested = True
        return task.result()


async def run_branch(
    runtime: Runtime, swarm_id: str, branch_id: str, job: Job | None, delivery_tag: str | None
) -> dict[str, Any]:
    """Returns what became of this delivery. A branch's failure is a value; nothing that an agent does raises."""
    structlog.contextvars.bind_contextvars(swarm=swarm_id, branch=branch_id)
    stops = Stops()
    status = await _deliver(runtime, swarm_id, branch_id, job, delivery_tag, stops)
    reached(CrashPoint.BRANCH_ACKED)
    if stops.requested:  # the pool neither stores nor acks: a revoke has done so, a hand-over must not
        raise asyncio.CancelledError
    return {"branch": branch_id, "status": status}


async def _deliver(
    runtime: Runtime, swarm_id: str, branch_id: str, job: Job | None, delivery_tag: str | None, stops: Stops
) -> str:
    settings = runtime.settings
    reached(CrashPoint.BRANCH_CLAIMED)
    claim = await stops.shielded(
        runtime.store.branches.claim(swarm_id, branch_id, runtime.worker, settings.lease_seconds)
    )
    if claim.record is None:
        return claim.status
    await stops.shielded(move_on(runtime.dispatch, swarm_id, claim.record.spec.stage, claim))
    if claim.status == "exhausted":
        outcome = await stops.shielded(given_up(runtime, claim, claim.record))
        return await stops.shielded(_end(runtime, claim, outcome))
    if claim.status == "yielded":  # to the end of the queue, behind the other swarms' branches
        await stops.shielded(runtime.dispatch.branches(swarm_id, [branch_id]))
    if claim.status != "claimed":
        before = claim.record.outcome  # of a branch that ended before its message came, Celery is told how
        return claim.status if before is None else before.exit.value
    log.info("branch claimed", token=claim.token, kind=claim.record.spec.kind.value)
    work = await stops.shielded(work_for(runtime, claim, swarm_id))
    ended = await _work_under_lease(runtime, work, delivery_tag, job, stops)
    if ended is LeaseEnd.LOST:
        log.warning("lease lost, leaving the branch to its new holder")
        return "lease_lost"
    if ended is LeaseEnd.PARKED and not stops.requested:
        await stops.shielded(_park(runtime, claim, work))
        return "parked"
    reason = None
    if not isinstance(ended, Outcome):
        reason = await stops.shielded(_reason(runtime, claim))
        if reason is None and (job is None or job.stopping is StopReason.HAND_OVER):
            wanted = await stops.shielded(_hand_over(runtime, claim, work))
            if wanted and job is not None and job.others_stay:  # else the pool's end brings its own message back
                await stops.shielded(runtime.dispatch.branches(swarm_id, [branch_id]))
            return "handed_over"
    done = ended if isinstance(ended, Outcome) else None
    return await stops.shielded(_end_work(runtime, claim, work, done, reason))


async def _work_under_lease(
    runtime: Runtime, work: Work, delivery_tag: str | None, job: Job | None, stops: Stops
) -> Outcome | LeaseEnd:
    """The outcome, or why there is none yet; whatever still ran has cleaned up."""

    def leave() -> bool:
        stops.requested = True
        return work.leave()

    if stops.requested:
        return LeaseEnd.CANCELLED
    working = asyncio.create_task(work.run())
    beating = asyncio.create_task(keep_alive(runtime.settings.heartbeat_seconds, _renewal(runtime, work, delivery_tag)))
    if job is not None:
        job.leave = leave
    try:
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        stops.requested = True
    finally:
        if job is not None:
            job.leave = None
    return await stops.shielded(_settle(working, beating))


async def _settle(working: asyncio.Task[Outcome | None], beating: asyncio.Task[LeaseEnd]) -> Outcome | LeaseEnd:
    """Stop both, and say which of them had ended first and how."""
    finished = working.done()
    await _stop(working)
    await _stop(beating)
    if not finished:
        return LeaseEnd.CANCELLED if beating.cancelled() else beating.result()
    try:
        return working.result() or LeaseEnd.PARKED
    except LeaseLost:
        return LeaseEnd.LOST


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel, and wait for the clean-up; how the task ended does not matter any more."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _renewal(runtime: Runtime, work: Work, delivery_tag: str | None) -> Callable[[], Awaitable[LeaseEnd | None]]:
    async def renew() -> LeaseEnd | None:
        renewal = await _report(runtime, work, LOOK_PATIENCE_SECONDS)
        if work.equal is not None and renewal.alive:
            await work.equal.renew()
        if delivery_tag is not None:
            await runtime.store.gate.call("ZADD", UNACKED_INDEX, "XX", time.time(), delivery_tag)
        if not renewal.alive:
            return LeaseEnd.LOST
        if renewal.cancel_reason is not None:
            return LeaseEnd.CANCELLED
        # A call that waits to start is not made, equal work not waited for; what runs is finished first.
        waits = work.journal.doing in BETWEEN_CALLS or (work.equal is not None and work.equal.waiting)
        return LeaseEnd.PARKED if renewal.paused and waits else None

    return renew


async def _report(runtime: Runtime, work: Work, patience_seconds: float) -> Renewal:
    """Renew the lease, with what is observed of the branch."""
    await work.observer.refresh(patience_seconds)
    lease_seconds, observation = runtime.settings.lease_seconds, work.observer.observation()
    return await runtime.store.branches.renew(
        work.swarm_id, work.branch_id, work.claim.token, lease_seconds, observation
    )


async def _last_report(runtime: Runtime, work: Work, outcome: Outcome) -> None:
    """A candidate's finished work is scored too, however short it ran. Without it, its last heartbeat is."""
    if outcome.commit is not None:
        work.observer.saved(outcome.commit)
    try:
        await _report(runtime, work, runtime.settings.heartbeat_seconds)
    except SwarmqError as error:
        log.warning("finished work not observed", error=str(error))


async def _reason(runtime: Runtime, claim: Claim) -> str | None:
    """Who cancelled wrote the reason before the revoke.

    A revoke from Flower leaves none. To a prefork child it looks like the end of its worker: the branch is given back,
    and ended by the mark that follows.
    """
    if claim.record is None:
        raise LookupError("a claim without a record cannot be stopped")
    spec = claim.record.spec
    return (await runtime.store.branches.load(spec.swarm_id, spec.id)).cancel_reason


async def _park(runtime: Runtime, claim: Claim, work: Work) -> None:
    """Give the branch back without a message; where the swarm was resumed meanwhile, it needs one after all."""
    reached(CrashPoint.BRANCH_PARKED)
    await runtime.store.events.emit(work.swarm_id, work.event(EventType.BRANCH_PARKED, step=work.journal.steps))
    await _leave(work)
    if await _hand_over(runtime, claim, work):
        await runtime.dispatch.branches(work.swarm_id, [work.branch_id])


async def _hand_over(runtime: Runtime, claim: Claim, work: Work) -> bool:
    """Give the branch back: the next holder goes on at the step that this one did not finish.

    Returns whether its message is wanted: not in a paused swarm.
    """
    try:
        await work.checkpoint()
    except SwarmqError as error:  # the last checkpoint stands; a save that was under way may have made its own
        log.warning("handed over without a new checkpoint", error=str(error))
    try:
        return await runtime.store.branches.release(work.swarm_id, work.branch_id, claim.token)
    except SwarmqError as error:  # the lease then runs out, and reconcile sends the branch again
        log.warning("hand-over incomplete", error=str(error))
        return False


async def _leave(work: Work) -> None:
    """Let others begin who wait for this work. Not at a hand-over: the next holder goes on within the lease."""
    if work.equal is not None:
        await work.equal.leave()


async def _end_work(runtime: Runtime, claim: Claim, work: Work, outcome: Outcome | None, reason: str | None) -> str:
    """With the outcome, or without one as cancelled."""
    if outcome is None:
        outcome = await work.cancelled(reason or "revoked from Celery")
    elif work.record.spec.candidate and outcome.success:
        await _last_report(runtime, work, outcome)
    status = await _end(runtime, claim, outcome)
    await _leave(work)
    return status


def _wins(spec: BranchSpec, outcome: Outcome) -> bool:
    """Whether a candidate that ends so has won its race, unless another was faster."""
    return spec.candidate > 0 and outcome.success and outcome.verify is not None and outcome.verify.passed


async def _end(runtime: Runtime, claim: Claim, outcome: Outcome) -> str:
    """Write the outcome, then move the stage on. Dying in between is mended by reconcile."""
    record = claim.record
    if record is None:
        raise LookupError("a claim without a record cannot end")
    spec = record.spec
    told = {"exit": outcome.exit.value, "steps": outcome.steps, "error": outcome.error}
    event = branch_event(spec, EventType.BRANCH_FINISHED, told)
    reached(CrashPoint.OUTCOME_RECORDED)
    try:
        finished = await runtime.store.branches.finish(
            spec.swarm_id, spec.id, claim.token, outcome, [event], wins=_wins(spec, outcome)
        )
    except LeaseLost:
        log.warning("lease lost at the end, leaving the branch to its new holder")
        return "lease_lost"
    log.info("branch ended", exit=outcome.exit.value, steps=outcome.steps, error=outcome.error, won=finished.won)
    if finished.won:
        reached(CrashPoint.LOSERS_STOPPED)
        await stop_losers(runtime.store, runtime.dispatch, spec.swarm_id, spec.subtask_id, spec.id, "verify")
    await move_on(runtime.dispatch, spec.swarm_id, spec.stage, finished)
    return outcome.exit.value
