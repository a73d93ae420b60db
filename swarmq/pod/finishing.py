"""What a finished branch leaves, whichever process finishes it. Pure."""

from __future__ import annotations

from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.plan import Subtask
from swarmq.workspace.commits import CommitInfo

SUBJECT_CHARACTERS = 72


def commit_words(subtask: Subtask, spec: BranchSpec) -> tuple[str, dict[str, str]]:
    """Subject and trailers of the finished commit."""
    subject = f"{subtask.name}: {subtask.instruction}".split("\n")[0][:SUBJECT_CHARACTERS]
    return subject, trailers_of(spec)


def trailers_of(spec: BranchSpec) -> dict[str, str]:
    """What a finished commit says of where it comes from."""
    return {"Swarmq-Swarm": spec.swarm_id, "Swarmq-Subtask": spec.subtask_id, "Swarmq-Branch": spec.id}


def with_commit(outcome: Outcome, made: CommitInfo | None) -> Outcome:
    """With what the branch has changed; an edit branch that ended well and changed nothing has failed."""
    if made is None:
        return without_changes(outcome) if outcome.success else outcome
    return outcome.model_copy(update={"commit": made.commit, "files": tuple(made.files)})


def without_changes(outcome: Outcome) -> Outcome:
    """The failure of an edit branch that ended well and changed nothing."""
    failed = {"exit": Exit.FAILED, "fault": "agent", "error": "the agent finished without changing any file"}
    return outcome.model_copy(update=failed)
