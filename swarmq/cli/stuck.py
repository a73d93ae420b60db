"""What stands still, since when, and what mends it. Pure: it judges the swarms that the store has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarmq.cli.checks import Finding, Status
from swarmq.cli.fleet_checks import LATE_TICKS, PODS, RESTART_STACK, beats
from swarmq.cli.render import count, duration, one_line
from swarmq.models.branch import BranchState
from swarmq.models.swarm import SwarmState

if TYPE_CHECKING:
    from swarmq.models.branch import BranchRecord
    from swarmq.store.health import FleetLook, SwarmLook

UPDATE = "install the version that wrote it, here and on the workers"


@dataclass(frozen=True)
class Surroundings:
    """What a judgement depends on besides the swarm. ``unserved`` are queues without a worker."""

    now: float
    beats: bool
    unserved: Sequence[str]
    embedded: bool
    patience_seconds: float
    """How long a message may wait before reconcile sends it again."""
    recovery_seconds: float
    """Within this time reconcile mends what it can, where beat works."""

    def urgency(self, overdue_seconds: float) -> Status:
        return "warn" if self.beats and overdue_seconds <= self.recovery_seconds else "fail"

    def remedy(self, queue: str, overdue_seconds: float, otherwise: str) -> str:
        """What is missing of control, the queue that has the work, and beat, in this order; else ``otherwise``.

        What is mended by itself is not to be cancelled.
        """
        if self.urgency(overdue_seconds) == "warn":
            otherwise = f"nothing to do: it is sent again within {self.recovery_seconds:g} s"
        missing = [one for one in ("control", queue) if one in self.unserved]
        if self.embedded:
            return otherwise if self.beats and not missing else RESTART_STACK
        if missing:
            return f"swarmq worker --queue {missing[0]}"
        return otherwise if self.beats else "swarmq beat"


def surroundings(
    look: FleetLook, unserved: Sequence[str], patience_seconds: float, reconcile_seconds: float, *, embedded: bool
) -> Surroundings:
    every = look.tick.every_seconds if look.tick is not None else reconcile_seconds
    return Surroundings(look.now, beats(look), tuple(unserved), embedded, patience_seconds, LATE_TICKS * every)


def swarms(look: FleetLook, around: Surroundings) -> list[Finding]:
    """A finding for each branch, job and swarm that stands still, and one line where all move."""
    findings = [finding for swarm in look.swarms for finding in one_swarm(swarm, around)] + unreadable(look)
    if not findings:
        findings.append(Finding("swarms", "ok", f"{count(len(look.swarms), 'unfinished swarm')}, none stands still"))
    if look.left_out:
        findings.append(Finding("swarms", "warn", f"{look.left_out:,} more were not looked at", "swarmq ls"))
    return findings


def unreadable(look: FleetLook) -> list[Finding]:
    """Swarms of another version, which this one cannot judge."""
    return [Finding("swarm", "fail", error, UPDATE, swarm=swarm_id) for swarm_id, error in look.unreadable.items()]


def one_swarm(swarm: SwarmLook, around: Surroundings) -> list[Finding]:
    """What stands still in it; empty where nothing does."""
    record = swarm.record
    if record.paused_at and record.cancel_reason is None and not record.state.final:
        past, swarm_id = duration(around.now - record.paused_at), record.spec.id
        why = f" ({one_line(record.pause_reason, 200)})" if record.pause_reason else ""
        said = f"{swarm_id} is paused for {past}{why}; swarmq resume {swarm_id} lets it go on"
        return [Finding("swarm", "ok", said, since=record.paused_at, swarm=swarm_id)]
    found = [finding for branch in swarm.branches for finding in _branch(swarm, branch, around)]
    found += _jobs(swarm, around)
    return found or _whole(swarm, around)


def branch_queue(swarm: SwarmLook) -> str:
    """Whose workers run its branches."""
    return PODS if swarm.record.spec.options.placement == "pod" else "agents"


def _branch(swarm: SwarmLook, branch: BranchRecord, around: Surroundings) -> list[Finding]:
    swarm_id, branch_id = swarm.record.spec.id, branch.spec.id
    if branch.state is BranchState.RUNNING and branch.lease_until < around.now:
        since, allowed = branch.lease_until, 0.0
        what = f"its lease ended {{past}} ago, with worker {branch.worker}, and nobody took it over"
    elif branch.state is BranchState.QUEUED:
        since, allowed = branch.queued_at, around.patience_seconds
        what = "it is queued for {past}, and no worker claims it"
    else:
        return []
    past = around.now - since
    overdue = past - allowed
    if overdue <= 0:
        return []
    return [
        Finding(
            "branch",
            around.urgency(overdue),
            f"{branch_id} of swarm {swarm_id}: {what.format(past=duration(past))}",
            around.remedy(branch_queue(swarm), overdue, f"swarmq cancel {swarm_id} {branch_id}"),
            since,
            swarm_id,
            branch_id,
        )
    ]


def _jobs(swarm: SwarmLook, around: Surroundings) -> list[Finding]:
    """Planning, finishing a stage or the swarm: claimed, and the holder is gone."""
    swarm_id = swarm.record.spec.id
    findings = []
    for name, job in swarm.jobs.items():
        past = around.now - job.lease_until
        if past <= 0:
            continue
        said = f"{name} of swarm {swarm_id}: its lease ended {duration(past)} ago, with worker {job.worker}"
        remedy = around.remedy(_queue(swarm, name), past, f"swarmq cancel {swarm_id}")
        findings.append(Finding("job", around.urgency(past), said, remedy, job.lease_until, swarm_id))
    return findings


def _queue(swarm: SwarmLook, job: str) -> str:
    synthesis = job == "finish_swarm" and swarm.record.spec.options.synthesize
    return "agents" if job == "plan" or synthesis else "integrate"


def _whole(swarm: SwarmLook, around: Surroundings) -> list[Finding]:
    """A swarm of which nothing is held and nothing is queued, and that has told nothing for too long."""
    record, now = swarm.record, around.now
    swarm_id = record.spec.id
    moving = any(branch.state in (BranchState.RUNNING, BranchState.QUEUED) for branch in swarm.branches) or swarm.jobs
    since = swarm.last_event_at or record.spec.created_at
    past = now - since
    if moving or past <= around.patience_seconds + around.recovery_seconds:
        return []
    what, queue = {
        SwarmState.SUBMITTED: ("nobody plans it", "agents"),
        SwarmState.PLANNING: ("nobody plans it", "agents"),
        SwarmState.RUNNING: (f"stage {max(record.stage, 0)} does not move on", "integrate"),
        SwarmState.FINISHING: ("nobody finishes it", "integrate"),
    }.get(record.state, ("it has ended, but its producers were not told", "integrate"))
    said = f"{swarm_id} stands still for {duration(past)}: {what}"
    otherwise = f"swarmq logs {swarm_id}" if record.state.final else f"swarmq cancel {swarm_id}"
    return [Finding("swarm", "fail", said, around.remedy(queue, past, otherwise), since, swarm_id)]
