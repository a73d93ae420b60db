"""The finished commit of a branch that ran in a pod: as the pod made it, or of the files that it saved last."""

from __future__ import annotations

from swarmq.fleet.pod_following import unpacked
from swarmq.models.branch import BranchSpec, Outcome
from swarmq.models.plan import Kind, Subtask
from swarmq.pod.finishing import commit_words, trailers_of, with_commit
from swarmq.pod.protocol import ResultRecord
from swarmq.workspace.swarm_repository import CommitInfo, SwarmRepository


async def commit_of_result(
    repository: SwarmRepository, spec: BranchSpec, token: int, result: ResultRecord
) -> CommitInfo | None:
    """Verified; None where there is none, or it changes no file. WorkspaceError where git or we refuse it."""
    if result.pack is None or spec.base_commit is None:
        return None
    pack, commit = unpacked(result.pack), result.pack.commit
    return await repository.accept_commit(spec.id, token, pack, commit, spec.base_commit, trailers_of(spec))


async def with_saved_files(
    outcome: Outcome,
    repository: SwarmRepository | None,
    spec: BranchSpec,
    token: int,
    subtask: Subtask,
    checkpoint: str | None,
) -> Outcome:
    """For an agent that is not there to commit its files: the outcome with those of its last checkpoint."""
    if repository is None or spec.kind is not Kind.EDIT:
        return outcome
    made = None
    if checkpoint is not None:
        worktree = await repository.open_worktree(spec.id, token, checkpoint)
        subject, trailers = commit_words(subtask, spec)
        made = await repository.commit(worktree, message=subject, trailers=trailers)
        await repository.remove_worktree(worktree)
    return with_commit(outcome, made)
