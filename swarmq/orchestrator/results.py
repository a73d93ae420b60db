"""What became of a subtask, from its branch's outcome and its merge. Pure."""

from __future__ import annotations

from swarmq.models.branch import BranchRecord, Exit, Outcome
from swarmq.models.plan import Subtask
from swarmq.models.swarm import CandidateResult, MergeReport, SubtaskResult, SubtaskStatus
from swarmq.orchestrator.declared_files import declared_against_actual

_STATUS = {
    Exit.COMPLETED: SubtaskStatus.SUCCEEDED,
    Exit.TIMED_OUT: SubtaskStatus.TIMED_OUT,
    Exit.CANCELLED: SubtaskStatus.CANCELLED,
}


def subtask_result(
    subtask: Subtask,
    branch: BranchRecord,
    outcome: Outcome,
    merge: MergeReport | None,
    *,
    candidates: tuple[CandidateResult, ...] = (),
    resolved_by: str | None = None,
    unresolved: str | None = None,
) -> SubtaskResult:
    """``merge`` is the last one that was tried, ``unresolved`` why an agent could not resolve its conflict."""
    status, error = _STATUS.get(outcome.exit, SubtaskStatus.FAILED), outcome.error
    if merge is not None and merge.status == "conflict":
        status = SubtaskStatus.CONFLICT
        error = f"conflicts with what is merged already in {', '.join(merge.conflicts)}"
        error += f"; the resolver failed: {unresolved}" if unresolved else ""
    elif merge is not None and merge.status == "rejected":
        status, error = SubtaskStatus.FAILED, _rejected(merge)
    return SubtaskResult(
        subtask_id=subtask.id,
        name=subtask.name,
        stage=branch.spec.stage,
        kind=subtask.kind,
        status=status,
        branch_id=branch.spec.id,
        text=outcome.text,
        error=error,
        fault="agent" if merge is not None and merge.status == "rejected" else outcome.fault,
        steps=outcome.steps,
        tool_calls=outcome.tool_calls,
        retries=outcome.retries,
        usage=outcome.usage,
        cost_usd=outcome.cost_usd,
        duration_seconds=outcome.duration_seconds,
        merge=merge,
        declared=declared_against_actual(subtask, outcome),
        worktree=outcome.worktree,
        cached=outcome.cached_from is not None,
        spared=outcome.spared,
        continued_from=outcome.continued_from,
        limit=outcome.limit,
        verify=outcome.verify,
        candidates=candidates,
        resolved_by=resolved_by,
    )


def _rejected(merge: MergeReport) -> str:
    verify = merge.verify
    if verify is None:
        return "not merged: the merged tree did not pass verify"
    return f"not merged: with it, verify does not pass on the merged tree: {verify.command} {verify.ending}"


def unrun(subtask: Subtask, stage: int, status: SubtaskStatus, why: str) -> SubtaskResult:
    """The result of a subtask that has no branch."""
    return SubtaskResult(
        subtask_id=subtask.id, name=subtask.name, stage=stage, kind=subtask.kind, status=status, error=why
    )
