"""The finished commit of a branch that ran in a pod: as the pod made it, or of the files that it saved last."""

from __future__ import annotations

from swarmq.fleet.pod_following import unpacked
from swarmq.models.branch import BranchSpec
from swarmq.models.plan import Subtask
from swarmq.pod.finishing import commit_words, trailers_of
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


async def commit_of_checkpoint(
    repository: SwarmRepository, spec: BranchSpec, token: int, subtask: Subtask, checkpoint: str | None
) -> CommitInfo | None:
    """No agent is there to make one; None where nothing was saved, or what was is as it was in the beginning."""
    if checkpoint is None:
        return None
    worktree = await repository.open_worktree(spec.id, token, checkpoint)
    subject, trailers = commit_words(subtask, spec)
    made = await repository.commit(worktree, message=subject, trailers=trailers)
    await repository.remove_worktree(worktree)
    return made
