"""Commits that travel as packs of git objects: to an agent that has no repository, and back from one.

What comes back is as untrusted as an agent's files: git computes every id again and refuses what is malformed, what is
incomplete, and history that does not stand on the branch's base.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.adoption import has_merges
from swarmq.workspace.commits import CommitInfo, move_ref
from swarmq.workspace.git import GitAt
from swarmq.workspace.pack_sizes import check_sizes
from swarmq.workspace.private_clone import PrivateClone, valid_branch, valid_commit
from swarmq.workspace.staging import numstat
from swarmq.workspace.worktrees import fence

MAX_PACK_BYTES = 32 * 1024 * 1024
"""Of one pack that comes back: three quarters of what a log shows of it."""
_LOOSE_OBJECTS = 100
"""Smaller packs are taken apart, as git does with what it fetches: a pack for each step would slow everything down."""
_SCHEMES = ("https", "http", "file")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is cloned from. The password is sent to that URL's host alone."""

    url: str
    user: str = "git"
    password: str | None = None

    def variables(self) -> dict[str, str]:
        """For git's environment: the transports that a clone may use, and who asks."""
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES:
            raise UsageError(f"{self.url!r} cannot be cloned from: write an {', '.join(_SCHEMES)} URL")
        allowed = {"GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES)}
        if self.password is None or parts.scheme == "file":
            return allowed
        words = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        return allowed | {"GIT_CONFIG_PARAMETERS": f"'http.{host}.extraheader'='Authorization: Basic {words}'"}


def pack_of(
    clone: PrivateClone, wanted: Sequence[str], known: Sequence[str], limit_bytes: int, shallow: str | None = None
) -> bytes:
    """What somebody lacks of some objects who has the known commits, as a thin pack; longer than the limit if it is.

    ``shallow`` is a commit that they descend from: it comes without what was before it.
    """
    lines = [*([f"--shallow {valid_commit(shallow)}"] if shallow is not None else []), *map(valid_commit, wanted)]
    lines += [f"^{valid_commit(commit)}" for commit in known]
    stdin = "".join(f"{line}\n" for line in lines).encode()
    arguments = ("pack-objects", "--revs", "--thin", "--stdout", "-q")
    return clone.git.run(*arguments, stdin=stdin, limit_bytes=limit_bytes + 1).stdout


def receive_repository(
    directory: Path, base: str, pack: bytes, *, shallow: str | None, remote: Remote | None, known: str | None = None
) -> None:
    """Make a repository with that commit as its HEAD, and no files yet. Blocking. WorkspaceError.

    ``known`` is the remote's commit that the pack builds on, where the base is not there itself.
    """
    directory.mkdir(parents=True)
    git = GitAt(directory=directory)
    git.run("init", "-q", f"--object-format={'sha1' if len(valid_commit(base)) == 40 else 'sha256'}")
    if remote is not None:
        _fetch(git, remote, known or base)
    if shallow is not None:
        (directory / ".git" / "shallow").write_text(f"{shallow}\n")
    _take_in(git, pack)
    if not _has(git, base):
        raise WorkspaceError(f"the commit {base} that the work starts from is not in the payload")
    git.run("update-ref", "--no-deref", "HEAD", base)


def _fetch(git: GitAt, remote: Remote, commit: str) -> None:
    """The branches, and that commit."""
    fetch = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--", remote.url)
    variables = remote.variables()
    git.run(*fetch, "+refs/heads/*:refs/remotes/origin/*", variables=variables)
    if not _has(git, commit):
        git.run(*fetch, commit, variables=variables, accept=(0, 1, 128))  # many servers give any that is asked for
    if not _has(git, commit):
        raise WorkspaceError(
            f"the commit {commit} that the work starts from is not in {remote.url}: push it there first"
        )


def _has(git: GitAt, commit: str) -> bool:
    return git.run("cat-file", "-e", f"{commit}^{{commit}}", accept=(0, 1, 128)).status == 0


def _take_in(git: GitAt, pack: bytes) -> None:
    """Store what a pack holds. git refuses it whole where an object is malformed, or refers to one that is nowhere."""
    count = int.from_bytes(pack[8:12], "big")
    if not pack or (pack[:4] == b"PACK" and count == 0):
        return
    if count <= _LOOSE_OBJECTS:
        git.run("unpack-objects", "-q", "--strict", stdin=pack)
    else:
        git.run("index-pack", "--stdin", "--fix-thin", "--strict", stdin=pack)


def take_over(clone: PrivateClone, branch_id: str, token: int) -> None:
    """From now on nobody with an older token moves the branch's refs. WorkspaceError where a newer one was here."""
    with fence(clone, branch_id, token):
        pass


def accept_checkpoint(
    clone: PrivateClone, branch_id: str, token: int, pack: bytes, commit: str, base: str, previous: str | None
) -> None:
    """Take over a checkpoint that was made elsewhere; on the branch's checkpoint ref afterwards. WorkspaceError."""
    _verify(clone, branch_id, pack, commit, base)
    if clone.commit(commit).checkpoint_base != base:
        raise WorkspaceError(f"{commit} is no checkpoint of branch {branch_id}")
    with fence(clone, branch_id, token) as check:
        move_ref(clone, clone.checkpoint_ref(branch_id), commit, previous, check)


def accept_commit(
    clone: PrivateClone,
    branch_id: str,
    token: int,
    pack: bytes,
    commit: str,
    base: str,
    trailers: Mapping[str, str],
    theirs: str | None = None,
) -> CommitInfo | None:
    """Take over a finished commit, on the branch's work ref afterwards; None where it changes no file.

    With ``theirs``, a resolver's, it is the merge with that commit, also where it changes nothing. WorkspaceError, as
    for one without these trailers: it is another branch's.
    """
    _verify(clone, branch_id, pack, commit, base, theirs)
    lines = clone.commit(commit).message.decode("utf-8", "replace").splitlines()
    if any(f"{name}: {value}" not in lines for name, value in trailers.items()):
        raise WorkspaceError(f"{commit} is no commit of branch {branch_id}")
    info = CommitInfo(commit, *numstat(clone.git, base, commit))
    if theirs is None and not info.files:
        return None
    with fence(clone, branch_id, token) as check:
        move_ref(clone, clone.work_ref(branch_id), commit, clone.resolve(clone.work_ref(branch_id)), check)
    return info


def _verify(
    clone: PrivateClone, branch_id: str, pack: bytes, commit: str, base: str, theirs: str | None = None
) -> None:
    """Of what came from elsewhere nothing is a merge, but for a resolver's finished commit with the other side.

    By a second parent git would take for merged what the files do not hold: the work of another branch. So it would
    where the first parent is a commit of that branch.
    """
    if len(pack) > MAX_PACK_BYTES:
        raise WorkspaceError(f"a pack of {len(pack):,} bytes is refused, {MAX_PACK_BYTES:,} is the limit")
    try:
        valid_commit(commit)
    except UsageError as error:
        raise WorkspaceError(str(error)) from None
    if pack:
        check_sizes(pack, len(commit) // 2)
    _take_in(clone.git, pack)
    # Everything between the base and the commit is there, blobs included; fails where it is not.
    clone.git.run("rev-list", "--objects", "--quiet", commit, f"^{base}")
    own = commit if theirs is None else _merged_with(clone, commit, theirs)
    if not clone.contains(own, base):
        raise WorkspaceError(f"{commit} does not stand on the branch's base {base}")
    if has_merges(clone.git, base, own):
        raise WorkspaceError(f"{commit} brings in other history by a merge")
    if own != base and not _stands_alone(clone, branch_id, own, base):
        raise WorkspaceError(f"{commit} stands on another subtask's work")


def _stands_alone(clone: PrivateClone, branch_id: str, own: str, base: str) -> bool:
    """Whether a line of commits comes down to the base before it meets what branches of other subtasks have."""
    subtask = valid_branch(branch_id).partition(".")[0]
    refs = (clone.work_ref(subtask), clone.checkpoint_ref(subtask))
    siblings = [f"--exclude={ref}{others}" for ref in refs for others in ("", ".*")]
    line = clone.git.run("rev-list", "--boundary", own, f"^{base}", "--not", *siblings, "--all").text.splitlines()
    return line[-1:] == [f"-{base}"]


def _merged_with(clone: PrivateClone, commit: str, theirs: str) -> str:
    """The first parent of a commit whose only other one is ``theirs``. WorkspaceError for any other."""
    _, *parents = clone.git.run("rev-list", "--parents", "--max-count=1", commit).text.split()
    if parents[1:] != [theirs]:
        raise WorkspaceError(f"{commit} is not a merge with {theirs} alone")
    return parents[0]
