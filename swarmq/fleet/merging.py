"""The merge queue of a swarm: one commit at a time into its integration branch, verified before the branch moves.

Whoever calls this holds the swarm's ``merge`` job. The merged tree is made first, as a commit on which no branch
stands; only when verify has passed on it does the integration branch move there, by compare-and-swap. So whatever
that branch ever pointed to has passed, and a culprit is backed out by never having been in.
"""

from __future__ import annotations

from swarmq.agent.narration import branch_event
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import WorkspaceError
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.verifying import verify_commit
from swarmq.models.branch import BranchRecord, Outcome
from swarmq.models.events import EventType
from swarmq.models.plan import Subtask
from swarmq.models.swarm import MergeReport, SwarmRecord
from swarmq.workspace.swarm_repository import SwarmRepository

MERGE = "merge"
"""The name of the job."""
_MOVED_TIMES = 20

_EVENTS = {
    "merged": EventType.MERGED,
    "empty": EventType.MERGED,
    "conflict": EventType.CONFLICT,
    "rejected": EventType.REJECTED,
}


async def merge(
    runtime: Runtime,
    record: SwarmRecord,
    repository: SwarmRepository,
    subtask: Subtask,
    branch: BranchRecord,
    outcome: Outcome,
) -> MergeReport:
    """Merge what a branch left, and record the report. Done again after a crash, it finds the merge by git."""
    swarm_id, commit = record.spec.id, outcome.commit
    if commit is None or not outcome.success or not record.spec.options.auto_merge or record.error is not None:
        return MergeReport(status="unmerged", commit=commit, files=outcome.files)
    reached(CrashPoint.MERGE_MADE)
    report = await _merge(runtime, record, repository, subtask, commit, branch)
    reached(CrashPoint.MERGE_RECORDED)
    await runtime.store.stages.record_merge(swarm_id, branch.spec.stage, branch.spec.id, report)
    await runtime.store.events.emit(swarm_id, branch_event(branch.spec, _EVENTS[report.status], _told(report)))
    await runtime.store.audit.append(swarm_id, "merge", report.status, {"branch": branch.spec.id})
    return report


async def _merge(
    runtime: Runtime,
    record: SwarmRecord,
    repository: SwarmRepository,
    subtask: Subtask,
    commit: str,
    branch: BranchRecord,
) -> MergeReport:
    branch_id, theirs = branch.spec.id, branch.spec.theirs
    for _ in range(_MOVED_TIMES):
        prepared = await repository.prepare_merge(commit, message=f"Merge {subtask.name}", theirs=theirs)
        if isinstance(prepared, MergeReport):
            return prepared
        verify = await verify_commit(runtime, record, subtask, repository, prepared.commit, branch_id=branch_id)
        if verify is not None and not verify.passed:
            await repository.drop(prepared)
            cancelled = (await runtime.store.swarms.load(record.spec.id)).cancel_reason is not None
            status = "unmerged" if cancelled and verify.stopped is not None else "rejected"
            return prepared.report.model_copy(update={"status": status, "commit": commit, "verify": verify})
        landed = await repository.land(prepared)
        if landed is not None:
            return landed.model_copy(update={"verify": verify})
    raise WorkspaceError(
        f"the integration branch of {record.spec.id} does not stand still: others keep merging into it"
    )


def _told(report: MergeReport) -> dict[str, object]:
    if report.status == "conflict":
        return {"files": list(report.conflicts)}
    if report.status == "rejected":
        return {"files": list(report.files)}
    return {
        "commit": report.commit,
        "files": list(report.files),
        "insertions": report.insertions,
        "deletions": report.deletions,
    }
