"""What a finished branch leaves, whichever process finishes it."""

from __future__ import annotations

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import UncommittableError
from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.plan import Subtask
from swarmq.workspace.swarm_repository import CommitInfo, SwarmRepository, Worktree

SUBJECT_CHARACTERS = 72
NO_CHANGES = "the agent finished without changing any file"


async def finished_commit(
    repository: SwarmRepository, worktree: Worktree, spec: BranchSpec, subtask: Subtask
) -> CommitInfo | str:
    """The commit; or why there is none, which is the agent's doing: no file differs, or some cannot be committed."""
    what = f"Resolve the conflict of {subtask.name}" if spec.resolves else subtask.instruction
    subject = f"{subtask.name}: {what}".split("\n")[0][:SUBJECT_CHARACTERS]
    reached(CrashPoint.COMMIT_MADE)
    try:
        made = await repository.commit(worktree, message=subject, trailers=trailers_of(spec), theirs=spec.theirs)
    except UncommittableError as error:
        return str(error)
    return made or NO_CHANGES


def trailers_of(spec: BranchSpec) -> dict[str, str]:
    """What a finished commit says of where it comes from."""
    return {"Swarmq-Swarm": spec.swarm_id, "Swarmq-Subtask": spec.subtask_id, "Swarmq-Branch": spec.id}


def with_commit(outcome: Outcome, made: CommitInfo | str) -> Outcome:
    """The outcome with the commit of an edit branch; failed, where it succeeded and there is none, for that reason."""
    if isinstance(made, CommitInfo):
        return outcome.model_copy(update={"commit": made.commit, "files": tuple(made.files)})
    failed = {"exit": Exit.FAILED, "fault": "agent", "error": made}
    return outcome.model_copy(update=failed) if outcome.success else outcome
