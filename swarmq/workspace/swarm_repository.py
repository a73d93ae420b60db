"""``SwarmRepository``: all that a swarm does with git, for callers in the event loop.

Each method is one piece of blocking work in the bounded pool. Each can be repeated, also after its process died in the
middle, and may run at the same time in other processes. Errors: WorkspaceError when git or the file system refuses,
EnvironmentFault when git is missing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from swarmq.errors import DiskFullError, WorkspaceError
from swarmq.models.swarm import MergeReport
from swarmq.workspace import (
    carrying,
    commits,
    copying,
    history,
    integration,
    packs,
    publishing,
    resolving,
    result_commits,
    snapshots,
    worktrees,
)
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.commits import CommitInfo
from swarmq.workspace.git import IDENTITY
from swarmq.workspace.integration import PreparedMerge
from swarmq.workspace.merge_tree import MergedTree
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.snapshots import Snapshot
from swarmq.workspace.surveying import Survey, blob_contents, marked_files, survey_changes
from swarmq.workspace.worktrees import Worktree

__all__ = ["CommitInfo", "PreparedMerge", "SwarmRepository", "Worktree"]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
P = ParamSpec("P")
T = TypeVar("T")


class SwarmRepository:
    """A swarm's private clone, its worktrees, and its way back into the user's repository. Cheap to make.

    Without ``keeps_merges`` a finished commit and checkpoints have none below them that an agent made itself: they are
    for ``accept_commit`` and ``accept_checkpoint`` elsewhere, which refuse such.
    """

    def __init__(
        self, state_dir: Path, swarm_id: str, repo: Path, base_commit: str, *, keeps_merges: bool = True
    ) -> None:
        self._clone = PrivateClone(state_dir, swarm_id, repo, base_commit, keeps_merges=keeps_merges)

    @classmethod
    async def found(cls, state_dir: Path, swarm_id: str) -> SwarmRepository | None:
        """That of a swarm whose record is gone; None where nothing tells whose it was."""
        clone = await run_blocking(PrivateClone.found, state_dir, swarm_id)
        return None if clone is None else cls(state_dir, swarm_id, clone.repo, clone.base_commit)

    async def _run(self, work: Callable[Concatenate[PrivateClone, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def guarded() -> T:
            try:
                return work(self._clone, *args, **kwargs)
            except OSError as error:  # a full disk, missing rights: for the caller the same as git's refusal
                kind = DiskFullError if error.errno in _DISK_FULL else WorkspaceError
                raise kind(f"{error.filename or self._clone.directory}: {error.strerror}") from error

        return await run_blocking(guarded)

    async def _run_in_clone(
        self, work: Callable[Concatenate[PrivateClone, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def with_clone(clone: PrivateClone, /, *args: P.args, **kwargs: P.kwargs) -> T:
            clone.make()
            return work(clone, *args, **kwargs)

        return await self._run(with_clone, *args, **kwargs)

    async def prepare(self) -> None:
        """Make the private clone and keep the base alive in the user's repository; the others do it when needed."""
        await self._run(PrivateClone.make)

    async def open_worktree(self, branch_id: str, token: int, start: str) -> Worktree:
        """The worktree of this fencing token, its files at ``start``: a commit, or a checkpoint of this branch.

        From then on older tokens can neither save nor commit. WorkspaceError where a newer one was here.
        """
        return await self._run_in_clone(worktrees.open_worktree, branch_id, token, start)

    async def open_reader(self, stage: int, commit: str) -> Worktree:
        """A checkout that all readers of the stage share; never one in which a file was changed."""
        return await self._run_in_clone(worktrees.open_reader, stage, commit)

    async def open_detached(self, name: str, commit: str) -> Worktree:
        """A new checkout of a commit that belongs to the caller alone: to verify a merge before it lands."""
        return await self._run_in_clone(worktrees.open_detached, name, commit)

    async def snapshot(self, worktree: Worktree) -> Snapshot:
        """The worktree's files as they are now, for ``put_back``."""
        return await self._run(snapshots.take_snapshot, worktree)

    async def put_back(self, worktree: Worktree, before: Snapshot) -> tuple[str, ...]:
        """Undo what was done to the files since; their names. Ignored files stay as they are."""
        return await self._run(snapshots.put_back, worktree, before)

    async def open_resolver(
        self, branch_id: str, token: int, start: str, theirs: str, checkpoint: str | None = None
    ) -> Worktree:
        """A resolver's worktree: its files as merging ``theirs`` into ``start`` leaves them, or as at the checkpoint.

        Markers hold both sides, by the names ``merged-before`` and ``this-subtask``, which are refs, and the base.
        """
        return await self._run_in_clone(resolving.open_resolver, branch_id, token, start, theirs, checkpoint)

    async def conflict_description(self, start: str, theirs: str) -> str:
        """What conflicts when ``theirs`` is merged into ``start``, in words for who resolves it."""
        return await self._run_in_clone(resolving.conflict_description, start, theirs)

    async def merge_left(self, start: str, theirs: str) -> MergedTree:
        """What a resolver's worktree is opened with."""
        return await self._run_in_clone(resolving.merge_left, start, theirs)

    async def receive_merge(self, start: str, theirs: str, told: bytes) -> None:
        """Have resolvers work here on a merge as it was left elsewhere (``told`` by it), its objects being here."""
        await self._run(resolving.receive_merge, start, theirs, told)

    async def unresolved(self, worktree: Worktree, theirs: str) -> tuple[str, ...]:
        """Files of a resolver's worktree that still hold conflict markers; ``theirs`` is what it was opened with."""
        return await self._run(resolving.unresolved, worktree, theirs)

    async def unresolved_in(self, commit: str, base: str, theirs: str) -> tuple[str, ...]:
        """The same of a resolver's commit."""
        return await self._run_in_clone(resolving.unresolved_in, commit, base, theirs)

    async def copy_ignored(self, worktree: Worktree, globs: Sequence[str]) -> tuple[str, ...]:
        """Copy ignored files of the user's checkout that match; names of those copied. Nothing is overwritten."""
        return await self._run(copying.copy_ignored, worktree, globs)

    async def checkpoint(self, worktree: Worktree, previous: str | None) -> str | None:
        """Save the files as a commit that survives this process; None where ``previous`` holds them already.

        The agent's own index, HEAD and stash are not touched. WorkspaceError where a newer token has taken over.
        """
        return await self._run(commits.checkpoint, worktree, previous)

    async def commit(
        self,
        worktree: Worktree,
        *,
        message: str,
        trailers: Mapping[str, str],
        author: str = IDENTITY,
        theirs: str | None = None,
    ) -> CommitInfo | None:
        """The branch's finished commit, on top of those that the agent made; None where no file differs.

        With ``theirs``, a resolver's, it is a merge commit of both sides. UncommittableError names files that cannot
        be committed.
        """
        return await self._run(commits.commit, worktree, message, trailers, author, theirs)

    async def refused_files(self, worktree: Worktree) -> tuple[str, ...]:
        """Why files cannot be committed: unreadable ones, submodules, any above 100 MB, ... Each names its file."""
        return await self._run(commits.refused_files, worktree)

    async def changed_files(self, worktree: Worktree) -> tuple[str, ...]:
        """Names of the files that differ from what the branch started from."""
        return await self._run(commits.changed_files, worktree)

    async def survey(self, base: str, commit: str) -> Survey:
        """How a saved state differs from the base, in a few ms: nothing of the worktree is read."""
        return await self._run(survey_changes, base, commit)

    async def marked_files(self, base: str, commit: str) -> frozenset[str]:
        """Names of files to which a commit added conflict markers, by ``git diff --check``."""
        return await self._run(marked_files, base, commit)

    async def blob_contents(self, blobs: Sequence[str], limit_bytes: int) -> dict[str, bytes]:
        """What blobs hold, by blob, as far as the limit for all of them goes."""
        return await self._run(blob_contents, blobs, limit_bytes)

    async def tree_of(self, commit: str) -> str:
        """The tree of a commit: equal trees hold equal files."""
        return await self._run_in_clone(lambda clone: clone.commit(commit).tree)

    async def earlier_tree(self, earlier_id: str, commit: str) -> str | None:
        """The tree of a commit that an earlier swarm on this repository had; None where it is gone."""
        return await self._run_in_clone(carrying.earlier_tree, earlier_id, commit)

    async def carry_checkpoint(
        self, earlier_id: str, branch_id: str, token: int, checkpoint: str, base: str
    ) -> str | None:
        """An earlier swarm's checkpoint as one of this branch, on a base with the same tree; None where it is gone."""
        return await self._run_in_clone(carrying.carry_checkpoint, earlier_id, branch_id, token, checkpoint, base)

    async def pack_of(
        self, wanted: Sequence[str], known: Sequence[str], limit_bytes: int, shallow: str | None = None
    ) -> bytes:
        """A thin pack with what leads from the known commits to the wanted objects; cut if over the limit.

        The commit ``shallow`` comes without what was before it.
        """
        return await self._run_in_clone(packs.pack_of, wanted, known, limit_bytes, shallow)

    async def take_over(self, branch_id: str, token: int) -> None:
        """Fence off older holders of a branch that has no worktree here. WorkspaceError where a newer one was."""
        await self._run_in_clone(packs.take_over, branch_id, token)

    async def accept_checkpoint(
        self, branch_id: str, token: int, pack: bytes, commit: str, base: str, previous: str | None
    ) -> None:
        """A checkpoint that was made elsewhere, verified. WorkspaceError, also where a newer token has taken over."""
        await self._run_in_clone(packs.accept_checkpoint, branch_id, token, pack, commit, base, previous)

    async def accept_commit(
        self,
        branch_id: str,
        token: int,
        pack: bytes,
        commit: str,
        base: str,
        trailers: Mapping[str, str],
        theirs: str | None = None,
    ) -> CommitInfo | None:
        """A finished commit that was made elsewhere, verified; None where no file differs. WorkspaceError.

        With ``theirs``, a resolver's, it is a merge of both sides, and may differ in no file.
        """
        return await self._run_in_clone(packs.accept_commit, branch_id, token, pack, commit, base, trailers, theirs)

    async def remove_worktree(self, worktree: Worktree) -> None:
        """Remove a worktree; what was saved or committed stays."""
        await self._run(worktrees.remove_worktree, worktree.path)

    async def prepare_merge(
        self, commit: str, *, message: str, theirs: str | None = None
    ) -> PreparedMerge | MergeReport:
        """Merge a finished commit with the integration branch, which stays where it is until the merge lands.

        A report, and nothing to land: "merged" before (by the same commit), "empty" or "conflict". ``theirs`` is the
        commit whose conflict ``commit`` resolves; it counts as merged as well.
        """
        return await self._run_in_clone(integration.prepare_merge, commit, message, theirs)

    async def land(self, prepared: PreparedMerge) -> MergeReport | None:
        """Move the integration branch to a prepared merge; None, and it is dropped, where the branch has moved."""
        return await self._run_in_clone(integration.land, prepared)

    async def drop(self, prepared: PreparedMerge) -> None:
        """Give up a prepared merge that is not to land."""
        await self._run_in_clone(integration.drop, prepared)

    async def integration_commit(self) -> str:
        """The tip of the integration branch; the base commit where nothing has been merged."""
        return await self._run(history.integration_commit)

    async def publish(self) -> tuple[str, str] | None:
        """Bring the integration branch into the user's repository: (branch, commit); None where nothing was merged."""
        return await self._run_in_clone(publishing.publish)

    async def diff(self, old: str, new: str, stat: bool = False) -> str:
        """The change between two commits as a patch of at most 5 MB, or as a diffstat."""
        return await self._run(history.diff, old, new, stat)

    async def log_graph(self) -> str:
        """The commits of the swarm as ``git log --graph`` draws them."""
        return await self._run(history.log_graph)

    async def remove(self, keep_worktrees: Collection[str] = ()) -> None:
        """Remove everything of the swarm, or all but some worktrees (paths) and the clone; loses no commit."""
        await self._run(publishing.remove, keep_worktrees)

    async def remove_worktrees(self, keep_worktrees: Collection[str] = ()) -> None:
        """Remove all worktrees but those to keep (paths), when nothing of the swarm runs; loses no commit."""
        await self._run(publishing.remove_worktrees, keep_worktrees)

    async def keep_result(self, key: str, commit: str) -> None:
        """Keep what a finished commit changed for later swarms on this repository."""
        await self._run_in_clone(result_commits.keep_result, key, commit)

    async def apply_result(self, key: str, base: str, branch_id: str | None = None) -> str | None:
        """A commit on ``base`` with the kept files; None where that is not possible or changes nothing.

        ``base`` has the tree on which the result was made: the key says so. With a branch, the commit becomes that
        branch's finished one.
        """
        return await self._run_in_clone(result_commits.apply_result, key, base, branch_id)
