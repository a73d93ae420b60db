"""A swarm's private clone: a bare repository that borrows the user's objects and shares nothing else with them.

    <state>/swarms/<id>/repo.git     ours: checkpoints, finished commits, the integration branch
                       /worktrees/   one directory per agent, each with a git directory of its own
                       /indexes/     the index through which we look at each worktree
                       /fences/      the fencing tokens of each branch, and locks

``git worktree`` would make agents share their refs, stash and configuration: ``git stash pop`` of one would take the
changes of another, ``git checkout -b fix`` would work for one only, and a filter or fsmonitor command written by one
would run in our own calls. So each worktree gets a git directory of its own, which borrows objects from ours, and our
calls name ``repo.git`` and never read the agent's. Nothing that agents do to theirs matters, and no two of them meet at
a lock. Its files are those of gitrepository-layout(5), written at another name and renamed: it is there whole or not.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.commit_object import CommitObject
from swarmq.workspace.file_system import file_system_settings
from swarmq.workspace.git import GitAt, quoted
from swarmq.workspace.repository import UserRepository, read_repository

if TYPE_CHECKING:
    from swarmq.workspace.merge_tree import MergedTree

EXCLUDED = (
    *("__pycache__/", "*.pyc", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/"),
    *("node_modules/", ".venv/", ".DS_Store"),
)
"""Never the work of an agent, also where the repository's own .gitignore forgets them."""
_TAKEN_OVER = (
    r"^(core\.(autocrlf|eol|attributesfile|excludesfile)|filter\..+"
    r"|merge\.(renormalize|renames|renamelimit|directoryrenames|default|.+\.(name|driver|recursive))"
    r"|diff\.(renames|renamelimit))$"
)
"""Settings of the user's repository that decide what a file's bytes are in a checkout, and what a merge comes to.

Not what it says of its file system (file_system.py): ours may be another one.
"""
_SWARM_ID = re.compile(r"[0-9a-z]{1,40}")
_BRANCH_ID = re.compile(r"[0-9a-z](?:[0-9a-z-]|\.(?=r?[0-9]))*")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_KNOWN_COMMITS = 4096


ORIGIN = "swarmq-origin"
"""File of the clone that names its repository and base: records expire, and cleaning must still save commits."""
COMMON_DIR = "swarmq-common-dir"
"""Names the git directory that the repository's worktrees share: the one that a swarm was started in may be removed."""


class PrivateClone:
    """Paths, refs and git calls of one swarm. All methods block; each can be repeated after dying at any point."""

    def __init__(
        self, state_dir: Path, swarm_id: str, repo: Path, base_commit: str, *, keeps_merges: bool = True
    ) -> None:
        if not _SWARM_ID.fullmatch(swarm_id):
            raise UsageError(f"{swarm_id!r} is not the id of a swarm")
        self.state_dir = state_dir.absolute()
        self.swarm_id = swarm_id
        self.repo = repo
        self.base_commit = valid_commit(base_commit)
        self.keeps_merges = keeps_merges
        """Whether merges that an agent made itself stay below its branch's commit."""
        self.directory = self.state_dir / "swarms" / swarm_id
        self.git_dir = self.directory / "repo.git"
        self.worktrees = self.directory / "worktrees"
        self.indexes = self.directory / "indexes"
        self.fences = self.directory / "fences"
        self.git = GitAt(git_dir=self.git_dir, private=True)
        self.base_ref = f"refs/swarmq/{swarm_id}/base"
        self.integration_ref = f"refs/heads/swarmq/{swarm_id}"
        # What git said about things that never change; a few entries a branch, and lost with this object.
        self._commits: dict[str, CommitObject] = {}
        self.adopted: dict[tuple[Path, str], str] = {}
        self.settled: set[Path] = set()
        self.saved: dict[str, tuple[str, str]] = {}
        self.attributes: dict[str, dict[str, bytes]] = {}
        self.merges: dict[tuple[str, str], MergedTree] = {}
        self.staged: dict[Path, tuple[tuple[int, int, int], str]] = {}

    @classmethod
    def found(cls, state_dir: Path, swarm_id: str) -> PrivateClone | None:
        """The clone of a swarm whose record is gone; None where there is none, or one that does not say whose it is."""
        path = state_dir / "swarms" / swarm_id / "repo.git" / ORIGIN
        try:
            repo, base_commit = orjson.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return cls(state_dir, swarm_id, Path(repo), base_commit)

    @property
    def user_git(self) -> GitAt:
        """git in the user's repository. Raises WorkspaceError where that is gone."""
        found = self.find_user_git()
        if found is None:
            raise WorkspaceError(f"the repository {self.repo} is not there (any more)")
        return found

    def find_user_git(self) -> GitAt | None:
        """By its own git directory; by the checkout where the clone does not know that one. None: moved, unmounted."""
        with contextlib.suppress(OSError):
            common_dir = Path(os.fsdecode((self.git_dir / COMMON_DIR).read_bytes()))
            if (common_dir / "objects").is_dir():
                return GitAt(git_dir=common_dir)
        return GitAt(directory=self.repo) if (self.repo / ".git").exists() else None

    def checkpoint_ref(self, branch_id: str) -> str:
        return f"refs/swarmq/{self.swarm_id}/{valid_branch(branch_id)}"

    def work_ref(self, branch_id: str) -> str:
        return f"refs/heads/swarmq-work/{self.swarm_id}/{valid_branch(branch_id)}"

    def make(self) -> None:
        """Keep the base alive in the user's repository, then make the clone; nothing where it is there already."""
        if self.git_dir.is_dir():
            return
        user = read_repository(self.repo)
        user.git.run("update-ref", self.base_ref, self.base_commit)
        for directory in (self.worktrees, self.indexes, self.fences):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        making = self.directory / f".making-{secrets.token_hex(6)}"
        making.mkdir()
        settings = file_system_settings(making) + _settings_of(user)
        write_git_dir(making, config_text(_own_settings(user.object_format, bare=True) + settings), user.objects)
        (making / "HEAD").write_text(f"ref: {self.integration_ref}\n")
        ref = making / self.integration_ref
        ref.parent.mkdir(parents=True)
        ref.write_text(f"{self.base_commit}\n")
        own = _own_settings(user.object_format, bare=False)
        _write(making / "worktree-config", config_text(own + settings))
        _write(making / "worktree-refs", _packed_refs(user))
        _copy_info(user.common_dir, making)
        _write(making / ORIGIN, orjson.dumps([str(self.repo), self.base_commit]))
        _write(making / COMMON_DIR, os.fsencode(user.common_dir))
        publish_directory(making, self.git_dir)

    def worktree_git_dir(self, git_dir: Path, head: str) -> None:
        """Write the git directory of a worktree: detached at ``head``, with the user's branches and tags to look at."""
        write_git_dir(git_dir, (self.git_dir / "worktree-config").read_bytes(), self.git_dir / "objects")
        (git_dir / "HEAD").write_text(f"{head}\n")
        for name, source in (("packed-refs", "worktree-refs"), ("shallow", "shallow"), ("info", "info")):
            path = self.git_dir / source
            if path.is_dir():
                shutil.copytree(path, git_dir / name)
            elif path.exists():
                shutil.copyfile(path, git_dir / name)

    def commit(self, commit: str) -> CommitObject:
        """Read a commit; WorkspaceError where there is none of that id. What was read once is remembered."""
        known = self._commits.get(commit)
        if known is None:
            known = CommitObject.parse(self.git.run("cat-file", "commit", valid_commit(commit)).stdout)
            if len(self._commits) >= _KNOWN_COMMITS:
                self._commits.clear()
            self._commits[commit] = known
        return known

    def write_commit(self, commit: CommitObject) -> str:
        """Store a commit whose tree and parents are there; its id. git checks the form."""
        return self.git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=commit.raw()).text

    def resolve(self, ref: str) -> str | None:
        """The commit that a ref points to; None where there is no such ref."""
        found = self.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1))
        return found.text or None

    def contains(self, tip: str, commit: str) -> bool:
        """Whether ``commit`` is ``tip`` or one of its ancestors; False for one that is not there."""
        return self.git.run("merge-base", "--is-ancestor", commit, tip, accept=(0, 1, 128)).status == 0

    def swap(self, ref: str, new: str, old: str | None) -> bool:
        """Point ``ref`` to ``new`` if it points to ``old`` (None: if it is not there); whether that was so."""
        expected = old or "0" * len(new)
        done = self.git.run("update-ref", ref, new, expected, accept=(0, 128))
        if done.status == 0:
            return True
        if self.resolve(ref) == old:  # another reason than the value: say it
            self.git.run("update-ref", ref, new, expected)
            return True
        return False


def valid_commit(commit: str) -> str:
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"{commit!r} is not a full commit id")
    return commit


def valid_branch(branch_id: str) -> str:
    if not _BRANCH_ID.fullmatch(branch_id):
        raise UsageError(f"{branch_id!r} is not the id of a branch")
    return branch_id


def write_git_dir(git_dir: Path, config: bytes, objects: Path) -> None:
    """The fixed part of a git directory, but for HEAD. ``objects`` is the directory that it borrows from."""
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (git_dir / name).mkdir(parents=True)
    _write(git_dir / "config", config)
    _write(git_dir / "objects" / "info" / "alternates", os.fsencode(quoted(str(objects))) + b"\n")


def publish_directory(making: Path, place: Path) -> bool:
    """Give a finished directory its name; False, and it is dropped, where another process was first."""
    try:
        making.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(making)
        return False
    return True


def config_text(settings: Iterable[tuple[str, str]]) -> bytes:
    """Settings (``section.sub.name``, value) as a git configuration file."""
    lines = []
    for key, value in settings:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        quoted_subsection = subsection.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{section} "{quoted_subsection}"]' if subsection else f"[{section}]")
        lines.append(f'\t{name} = "{escaped}"')
    return os.fsencode("\n".join(lines) + "\n")


def _own_settings(object_format: str, *, bare: bool) -> list[tuple[str, str]]:
    settings = [("core.bare", "true" if bare else "false")]
    settings += [("core.repositoryformatversion", "0" if object_format == "sha1" else "1")]
    if object_format != "sha1":
        settings += [("extensions.objectformat", object_format)]
    settings += [("core.sparseCheckout", "false"), ("core.untrackedCache", "false"), ("core.splitIndex", "false")]
    if bare:
        settings += [
            ("core.safecrlf", "false"),  # a file with mixed line ends must not stop a checkpoint
            ("core.looseCompression", "0"),  # objects that live for hours; a file of 50 MB costs 0.1 s and not 1.5
            ("core.commitGraph", "false"),  # an agent could write one that lies about its commits
            ("merge.conflictStyle", "merge"),  # others make conflicts of what git merges by itself
        ]
    else:
        settings += [("core.logAllRefUpdates", "true"), ("gc.auto", "0"), ("commit.gpgSign", "false")]
        settings += [("user.name", "swarmq"), ("user.email", "swarmq@localhost")]
        settings += [("merge.conflictStyle", "diff3")]  # who resolves sees what both sides started from
    return settings


def _settings_of(user: UserRepository) -> list[tuple[str, str]]:
    found = user.git.run("config", "--local", "--includes", "--null", "--get-regexp", _TAKEN_OVER, accept=(0, 1))
    settings = []
    for entry in found.names:
        key, separator, value = entry.partition("\n")
        settings.append((key, value if separator else "true"))
    if (user.common_dir / "lfs").is_dir():
        # What git-lfs keeps outside of commits has to be where the user's own checkout looks for it.
        settings.append(("lfs.storage", str(user.common_dir / "lfs")))
    return settings


def _packed_refs(user: UserRepository) -> bytes:
    listed = user.git.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
    return b"# pack-refs with:\n" + listed.stdout


def _copy_info(common_dir: Path, git_dir: Path) -> None:
    """The user's private excludes and attributes, and the end of a shallow history."""
    (git_dir / "info").mkdir()
    exclude = common_dir / "info" / "exclude"
    own = exclude.read_bytes() if exclude.is_file() else b""
    _write(git_dir / "info" / "exclude", own + b"\n" + "\n".join(EXCLUDED).encode() + b"\n")
    attributes = common_dir / "info" / "attributes"
    if attributes.is_file():
        shutil.copyfile(attributes, git_dir / "info" / "attributes")
    if (common_dir / "shallow").is_file():
        shutil.copyfile(common_dir / "shallow", git_dir / "shallow")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
