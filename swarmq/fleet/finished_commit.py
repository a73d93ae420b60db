"""The commit that an edit branch's work becomes when its agent is done."""

from __future__ import annotations

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import UncommittableError
from swarmq.models.branch import BranchSpec
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
    trailers = {"Swarmq-Swarm": spec.swarm_id, "Swarmq-Subtask": subtask.id, "Swarmq-Branch": spec.id}
    reached(CrashPoint.COMMIT_MADE)
    try:
        made = await repository.commit(worktree, message=subject, trailers=trailers, theirs=spec.theirs)
    except UncommittableError as error:
        return str(error)
    return made or NO_CHANGES
