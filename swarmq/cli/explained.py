"""One swarm explained: what each part of it does or waits for, and since when. Pure, as ``stuck`` is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmq.cli.checks import Finding
from swarmq.cli.render import ago, count, duration, one_line
from swarmq.cli.stuck import Surroundings, branch_queue, one_swarm
from swarmq.models.branch import BranchState

if TYPE_CHECKING:
    from swarmq.models.branch import BranchRecord
    from swarmq.store.health import SwarmLook


def explain(swarm: SwarmLook, around: Surroundings) -> list[Finding]:
    """How it stands, what stands still in it, then everything that does not and has not ended."""
    final = swarm.record.state.final
    stuck = [] if final and not swarm.record.canvases else one_swarm(swarm, around)
    told = {finding.branch for finding in stuck if finding.branch}
    waiting = [] if final else [one for one in swarm.branches if one.spec.id not in told]
    return [
        Finding("swarm", "ok", _whole(swarm, around.now), swarm=swarm.record.spec.id),
        *stuck,
        *(finding for branch in waiting if (finding := _branch(swarm, branch, around.now)) is not None),
        *_jobs(swarm, around.now),
    ]


def _whole(swarm: SwarmLook, now: float) -> str:
    record = swarm.record
    if record.state.final:
        untold = f"; {count(len(record.canvases), 'producer')} still to be told" if record.canvases else ""
        return f"{record.spec.id} has ended: {record.state.value} {ago(record.finished_at, now)}{untold}"
    parts = [f"{record.spec.id} is {record.state.value}"]
    if record.plan is not None and record.stage >= 0:
        here = [branch for branch in swarm.branches if branch.spec.stage == record.stage]
        ended = sum(branch.state is BranchState.DONE for branch in here)
        of = len(record.plan.stages)
        parts.append(f"stage {record.stage + 1} of {of}: {ended} of {count(len(here), 'branch')} ended")
    if record.cancel_reason is not None:
        parts.append(f"to be cancelled ({one_line(record.cancel_reason, 200)})")
    if swarm.last_event_at:
        parts.append(f"last event {ago(swarm.last_event_at, now)}")
    return "; ".join(parts)


def _branch(swarm: SwarmLook, branch: BranchRecord, now: float) -> Finding | None:
    match branch.state:
        case BranchState.RUNNING:
            since, does = branch.started_at, _work(branch, now)
        case BranchState.QUEUED:
            since, does = (
                branch.queued_at,
                f"queued {ago(branch.queued_at, now)}: its message waits for a worker of {branch_queue(swarm)}",
            )
        case BranchState.WAITING:
            most = swarm.record.spec.options.max_subagents
            since, does = 0.0, f"waits until one of {most} slots is free (max_subagents)"
        case _:
            return None
    if branch.cancel_reason is not None:
        does += f"; to be cancelled ({one_line(branch.cancel_reason, 200)})"
    return Finding("branch", "ok", f"{branch.spec.id}: {does}", "", since, branch.spec.swarm_id, branch.spec.id)


def _work(branch: BranchRecord, now: float) -> str:
    seen, lease = branch.observation, duration(max(0.0, branch.lease_until - now))
    doing = f"step {seen.steps + 1}, {one_line(seen.doing)}" if seen is not None and seen.doing else "begins"
    again = f", holder {branch.token}" if branch.token > 1 else ""
    return f"{doing}; with worker {branch.worker}{again}, whose lease is good for {lease} more"


def _jobs(swarm: SwarmLook, now: float) -> list[Finding]:
    return [
        Finding("job", "ok", f"{name} is under way, with worker {job.worker}", swarm=swarm.record.spec.id)
        for name, job in swarm.jobs.items()
        if job.lease_until > now
    ]
