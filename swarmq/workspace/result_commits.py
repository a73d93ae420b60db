"""Commits of cached results: kept alive, and applied again on another base with the same tree.

``<state>/cache/<repository>.git`` borrows the user's objects and holds, for each key, a commit without parents whose
tree is that of the result, with the objects that the user's repository lacks.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import time
from pathlib import Path

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.commit_object import CommitObject
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone, publish_directory, write_git_dir
from swarmq.workspace.repository import read_repository
from swarmq.workspace.worktrees import remove_tree

_KEY = re.compile(r"[0-9a-z]{1,128}")
_REFS = "refs/swarmq-cache/"
_LEFT_OVER_SECONDS = 3600.0


def keep_result(clone: PrivateClone, key: str, commit: str) -> None:
    """Keep the tree of a commit under ``key``, with its author and message. The newest result of a key wins."""
    cache = _open_cache(clone)
    kept = clone.commit(commit)
    _copy_tree(clone.git, kept.tree, clone.base_commit, cache)
    orphan = _write(GitAt(git_dir=cache, private=True), kept.rewritten(()))
    GitAt(git_dir=cache, private=True).run("update-ref", _ref(key), orphan)


def apply_result(clone: PrivateClone, key: str, base: str, branch_id: str | None) -> str | None:
    """A commit on ``base`` with the kept tree; None where nothing is kept, not all of it is left, or nothing changes.

    The same key and base give the same commit. With a branch, it becomes that branch's finished commit.
    """
    cache = _cache_path(clone)
    if not cache.is_dir():
        return None
    # The base may be a commit that only this swarm's clone has, from an earlier stage.
    git = GitAt(git_dir=cache, borrowed=(clone.git_dir / "objects",), private=True)
    found = git.run("cat-file", "commit", _ref(key), accept=(0, 128))
    if found.status != 0:
        return None
    kept = CommitObject.parse(found.stdout)
    if kept.tree == clone.commit(base).tree:
        return None
    try:
        _copy_tree(git, kept.tree, base, clone.git_dir)
        made = _write(clone.git, kept.rewritten((base,)))
    except WorkspaceError:  # the user's repository has dropped objects that the result was kept without
        return None
    if branch_id is not None:
        clone.git.run("update-ref", clone.work_ref(branch_id), made)
    return made


def expire_results(state_dir: Path, older_than_seconds: float) -> int:
    """Drop kept results that are older, for all repositories; how many. 0 seconds drops all."""
    directory = state_dir / "cache"
    if not directory.is_dir():
        return 0
    for left in directory.glob(".*"):  # by processes that died while they made or removed one
        if time.time() - left.stat().st_mtime > _LEFT_OVER_SECONDS:
            remove_tree(left)
    oldest = time.time() - older_than_seconds
    return sum(_expire(cache, oldest) for cache in sorted(directory.glob("*.git")))


def _expire(cache: Path, oldest: float) -> int:
    git = GitAt(git_dir=cache, private=True)
    try:
        listed = git.run("for-each-ref", "--format=%(committerdate:unix) %(refname)", _REFS).text.splitlines()
    except WorkspaceError:  # broken: nothing comes out of it any more
        remove_tree(cache)
        return 0
    old = [ref for date, _, ref in (line.partition(" ") for line in listed) if float(date) <= oldest]
    if len(old) == len(listed):
        remove_tree(cache)
    elif old:
        git.run("update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in old).encode())
        with contextlib.suppress(WorkspaceError):  # the user's repository is away: the last result takes all along
            git.run("repack", "-a", "-d", "-l", "-q")
            git.run("prune", "--expire=1.hour.ago")
    return len(old)


def _copy_tree(source: GitAt, tree: str, without: str, target: Path) -> None:
    """Copy the objects of a tree, but for those of a commit that the target knows."""
    wanted = f"{tree}\n^{without}^{{tree}}\n".encode()
    pack = target / "objects" / "pack" / "pack"
    source.run("pack-objects", "--revs", "--non-empty", "-q", str(pack), stdin=wanted)


def _write(git: GitAt, commit: CommitObject) -> str:
    return git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=commit.raw()).text


def _ref(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} is not the key of a result")
    return _REFS + key


def _cache_path(clone: PrivateClone) -> Path:
    name = hashlib.sha256(str(clone.repo.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return clone.state_dir / "cache" / f"{name}.git"


def _open_cache(clone: PrivateClone) -> Path:
    cache = _cache_path(clone)
    if not cache.is_dir():
        user = read_repository(clone.repo)
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        making = cache.with_name(f".making-{secrets.token_hex(6)}")
        write_git_dir(making, (clone.git_dir / "config").read_bytes(), user.objects)
        (making / "HEAD").write_text("ref: refs/heads/none\n")
        publish_directory(making, cache)
    return cache
