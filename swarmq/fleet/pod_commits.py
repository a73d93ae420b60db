"""The finished commit of a branch that ran in a pod: as the pod made it, or of the files that it saved last."""

from __future__ import annotations

from swarmq.fleet.pod_following import unpacked
from swarmq.models.branch import BranchSpec, Outcome
from swarmq.models.plan import Kind, Subtask
from swarmq.pod.finishing import NO_CHANGES, finished_commit, trailers_of, with_commit
from swarmq.pod.protocol import ResultRecord
from swarmq.workspace.swarm_repository import CommitInfo, SwarmRepository

UNRESOLVED_NAMED = 3
"""Files beyond these are not named in an error, which is one line."""


async def with_commit_of_result(
    outcome: Outcome, repository: SwarmRepository | None, spec: BranchSpec, token: int, result: ResultRecord
) -> Outcome:
    """The outcome with the pod's commit, verified. WorkspaceError where git or we refuse it."""
    base = spec.base_commit
    if repository is None or base is None or spec.kind is not Kind.EDIT:
        return outcome
    made = None
    if result.pack is not None:
        pack, commit, trailers = unpacked(result.pack), result.pack.commit, trailers_of(spec)
        made = await repository.accept_commit(spec.id, token, pack, commit, base, trailers, spec.theirs)
    return await _with_resolved(outcome, repository, spec, made or NO_CHANGES)


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
    made: CommitInfo | str = NO_CHANGES
    if checkpoint is not None:
        worktree = await repository.open_worktree(spec.id, token, checkpoint)
        made = await finished_commit(repository, worktree, spec, subtask)
        await repository.remove_worktree(worktree)
    return await _with_resolved(outcome, repository, spec, made)


async def _with_resolved(
    outcome: Outcome, repository: SwarmRepository, spec: BranchSpec, made: CommitInfo | str
) -> Outcome:
    """A resolver that leaves conflicts has failed, whatever its pod says; the landing runs ``verify`` alone."""
    base, theirs = spec.base_commit, spec.theirs
    if outcome.success and isinstance(made, CommitInfo) and base is not None and theirs is not None:
        left = await repository.unresolved_in(made.commit, base, theirs)
        if left:
            made = f"conflict markers are left in {', '.join(left[:UNRESOLVED_NAMED])}"
    return with_commit(outcome, made)
