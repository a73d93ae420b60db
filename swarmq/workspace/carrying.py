"""Bringing a checkpoint of an earlier swarm into this one's private clone.

It is looked for in the earlier swarm's clone and, once that has been cleaned up, in the user's repository, to which
cleaning fetches what only the clone held (publishing.py). It is copied: what happens to either of them afterwards does
not matter.
"""

from __future__ import annotations

from dataclasses import replace

from swarmq.errors import WorkspaceError
from swarmq.workspace.commit_object import CommitObject, checkpoint_message
from swarmq.workspace.commits import move_ref
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.worktrees import fence

_TRIES = 2
"""The earlier clone may be cleaned up while it is read; then everything is in the user's repository."""


def earlier_tree(clone: PrivateClone, earlier_id: str, commit: str) -> str | None:
    """The tree of a commit that the earlier swarm had; None where nobody has it any more."""
    found = _read(_with_earlier(clone, earlier_id), commit)
    return None if found is None else found.tree


def carry_checkpoint(
    clone: PrivateClone, earlier_id: str, branch_id: str, token: int, checkpoint: str, base: str
) -> str | None:
    """The checkpoint as one of this branch on ``base``, which has the tree that it was made on; None if it is gone.

    On the same base the agent's own commits below it are kept; on another one they become uncommitted changes. Called
    again, it gives the same commit. WorkspaceError where a newer token has taken the branch over.
    """
    made = None
    for _ in range(_TRIES):
        try:
            made = _copy(clone, _with_earlier(clone, earlier_id), checkpoint, base, token)
        except WorkspaceError:  # objects that vanished, or were never whole
            continue
        break
    if made is not None:
        with fence(clone, branch_id, token) as check:
            move_ref(clone, clone.checkpoint_ref(branch_id), made, None, check)
    return made


def _copy(clone: PrivateClone, git: GitAt, checkpoint: str, base: str, token: int) -> str | None:
    found = _read(git, checkpoint)
    if found is None or found.checkpoint_base is None:
        return None
    same_base = found.checkpoint_base == base
    wanted = f"{checkpoint}\n^{base}\n" if same_base else f"{found.tree}\n^{base}^{{tree}}\n"
    pack = clone.git_dir / "objects" / "pack" / "pack"
    git.run("pack-objects", "--revs", "--non-empty", "-q", str(pack), stdin=wanted.encode())
    parents = found.parents if same_base else (base,)
    return clone.write_commit(replace(found, parents=parents, message=checkpoint_message(base, token).encode()))


def _with_earlier(clone: PrivateClone, earlier_id: str) -> GitAt:
    """git in our clone, which borrows the user's objects, with those of the earlier clone where it is still there."""
    objects = clone.state_dir / "swarms" / earlier_id / "repo.git" / "objects"
    borrowed = (objects,) if objects.is_dir() else ()
    return GitAt(git_dir=clone.git_dir, borrowed=borrowed, private=True)


def _read(git: GitAt, commit: str) -> CommitObject | None:
    found = git.run("cat-file", "commit", valid_commit(commit), accept=(0, 128))
    return CommitObject.parse(found.stdout) if found.status == 0 else None
