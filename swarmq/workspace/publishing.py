"""What reaches the user's repository: the result branch, and the refs that keep unfinished work alive."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.git import GitAt
from swarmq.workspace.git_settings import setting
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.repository import changed_in_checkout, read_repository
from swarmq.workspace.worktrees import remove_tree, remove_worktree

_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")


def publish(clone: PrivateClone) -> tuple[str, str] | None:
    """Bring the integration branch into the user's repository as ``swarmq/<id>``; None where nothing was merged.

    Only moves that branch forward: WorkspaceError where the user has made it something else.
    """
    user_git = clone.user_git
    tip = clone.git.run("rev-parse", "--verify", f"{clone.integration_ref}^{{commit}}").text
    if tip == clone.base_commit:
        return None
    name = clone.integration_ref.removeprefix("refs/heads/")
    standing = user_git.run("rev-parse", "--verify", "--quiet", clone.integration_ref, accept=(0, 1)).text
    if standing == tip:
        return name, tip
    if standing and not clone.contains(tip, standing):
        raise WorkspaceError(
            f"{clone.repo} has another branch named {name}: rename it with 'git branch -m {name} NEW-NAME'"
        )
    _fetch(clone, {clone.integration_ref: clone.integration_ref})
    return name, tip


def _fetch(clone: PrivateClone, refs: dict[str, str]) -> None:
    """Copy refs (ours -> theirs) and their commits into the user's repository, forward only."""
    clone.user_git.run(*_FETCH, str(clone.git_dir), *(f"{ours}:{theirs}" for ours, theirs in refs.items()))


def remove(clone: PrivateClone, keep_worktrees: Collection[str]) -> None:
    """Remove all worktrees but those to keep (paths or names), and the clone if there are none.

    Before the clone goes, commits that only it holds are fetched into the user's repository, below
    ``refs/swarmq/<id>/work/``. Raises WorkspaceError, and the clone stays, where that repository is not there: it may
    be on a volume that comes back.
    """
    remove_worktrees(clone, keep_worktrees)
    if _worktrees(clone):
        return
    user_git = clone.find_user_git()
    if user_git is None and clone.git_dir.is_dir():
        raise WorkspaceError(
            f"{clone.repo} is not there (any more), so {clone.directory} is kept with its commits: "
            "remove that directory yourself if the repository is gone for good"
        )
    if user_git is not None:
        if clone.git_dir.is_dir():
            _rescue(clone)
        user_git.run("update-ref", "-d", clone.base_ref)
    remove_tree(clone.directory)


def remove_worktrees(clone: PrivateClone, keep_worktrees: Collection[str] = ()) -> None:
    """Remove all worktrees but those to keep (paths or names); commits and checkpoints stay in the clone.

    What processes that died have left half made or half removed goes as well: for a swarm of which nothing runs.
    """
    kept = {Path(name).name for name in keep_worktrees}
    for path in _worktrees(clone):
        if path.name not in kept:
            remove_worktree(clone, path)
    if clone.indexes.is_dir():
        for index in [path for path in clone.indexes.iterdir() if path.name not in kept]:
            index.unlink(missing_ok=True)
    for path in clone.directory.glob(".*"):
        remove_tree(path)


def _worktrees(clone: PrivateClone) -> list[Path]:
    return list(clone.worktrees.iterdir()) if clone.worktrees.is_dir() else []


def _rescue(clone: PrivateClone) -> None:
    """Fetch what no branch of the user's holds: the integration branch, finished commits, checkpoints without one."""
    place = f"refs/swarmq/{clone.swarm_id}"
    refs: dict[str, str] = {}
    tip = clone.resolve(clone.integration_ref)
    if tip is not None and tip != clone.base_commit and not _held(clone.user_git, tip):
        refs[clone.integration_ref] = f"{place}/integration"
    unmerged = ("for-each-ref", "--format=%(refname)", f"--no-merged={clone.integration_ref}")
    names = clone.git.run(*unmerged, "refs/heads/", "refs/swarmq/").text.split()
    for ref in names:
        branch = ref.rpartition("/")[2]
        if ref == clone.work_ref(branch) or clone.resolve(clone.work_ref(branch)) is None:
            refs[ref] = f"{place}/work/{branch}"
    if refs:
        _fetch(clone, {f"+{ours}": theirs for ours, theirs in refs.items()})


def _held(user_git: GitAt, commit: str) -> bool:
    """Whether some ref of the user's repository leads to the commit; it may not know it at all."""
    found = user_git.run("for-each-ref", "--count=1", f"--contains={commit}", accept=(0, 128, 129))
    return found.status == 0 and found.text != ""


async def fast_forward(repo: Path, branch: str, to: str) -> None:
    """Move a branch of the user's forward to ``to``, and its checkout with it where there is one.

    Raises UsageError where that is no fast-forward, or where the checkout has changes.
    """
    await run_blocking(_fast_forward, repo, branch, to)


def _fast_forward(repo: Path, branch: str, to: str) -> None:
    valid_commit(to)
    user = read_repository(repo)
    ref = f"refs/heads/{branch}"
    standing = user.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1)).text
    if not standing:
        raise UsageError(f"{repo} has no branch named {branch!r}")
    if user.git.run("cat-file", "-e", f"{to}^{{commit}}", accept=(0, 1, 128)).status != 0:
        raise UsageError(f"{repo} does not have commit {to[:12]}: the result has not been published there")
    if standing == to:
        return
    if user.git.run("merge-base", "--is-ancestor", standing, to, accept=(0, 1)).status != 0:
        raise UsageError(f"{branch} has moved on since the swarm started: merge {to[:12]} into it yourself")
    checkout = _checkout_of(user.git, ref)
    if checkout is None:
        user.git.run("update-ref", "-m", "swarmq: fast-forward", ref, to, standing)
        return
    changed = changed_in_checkout(GitAt(directory=checkout), untracked=False)  # git itself minds those in its way
    if changed:
        raise UsageError(
            f"{branch} is checked out in {checkout} with uncommitted changes ({', '.join(changed[:3])}): "
            "commit or stash them first"
        )
    # The branch may have options of its own for every merge: --squash would leave it where it is.
    plain = setting(f"branch.{branch}.mergeOptions", "")
    GitAt(directory=checkout).run("merge", "--ff-only", "--quiet", "--no-verify-signatures", to, variables=plain)


def _checkout_of(git: GitAt, ref: str) -> Path | None:
    """The user's worktree, the main one or a linked one, in which a branch is checked out."""
    path: str | None = None
    for line in git.run("worktree", "list", "--porcelain", "-z").names:
        if line.startswith("worktree "):
            path = line.removeprefix("worktree ")
        elif line == f"branch {ref}" and path is not None:
            return Path(path)
    return None
