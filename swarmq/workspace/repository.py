"""The user's repository, looked at and never touched."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.git import GitAt, require_git, shown

NAMED_FILES = 3
"""So many of the changed files are named when a dirty checkout is refused."""
_RESERVED = ("refs/heads/swarmq", "refs/swarmq")
"""git cannot hold both ``a`` and ``a/b``: with one of these there is no room for refs below it."""


@dataclass(frozen=True, slots=True)
class RepositoryInfo:
    """A repository that a swarm can work on. ``branch`` is None for a detached HEAD."""

    path: Path
    commit: str
    branch: str | None


@dataclass(frozen=True, slots=True)
class UserRepository:
    """What a private clone has to know of it. ``common_dir`` is shared by its linked worktrees."""

    path: Path
    commit: str
    branch: str | None
    common_dir: Path
    objects: Path
    object_format: str
    shallow: bool

    @property
    def git(self) -> GitAt:
        return GitAt(directory=self.path)


async def inspect(path: Path, *, allow_dirty: bool) -> RepositoryInfo:
    """The repository that ``path`` lies in. Raises UsageError with the way out, EnvironmentFault for a bad git."""
    return await run_blocking(_inspect, path, allow_dirty)


def _inspect(path: Path, allow_dirty: bool) -> RepositoryInfo:
    require_git()
    repository = read_repository(path.expanduser().absolute())
    if any(repository.objects.glob("pack/*.promisor")):
        raise UsageError(
            f"{repository.path} is a partial clone, whose missing objects only git's remote has: "
            "clone it again without --filter"
        )
    taken = repository.git.run("for-each-ref", "--format=%(refname)", *_RESERVED).text.split("\n")
    for ref in _RESERVED:
        if ref in taken:
            raise UsageError(
                f"{repository.path} has a branch named 'swarmq', which leaves no room for swarmq/<id>: "
                "rename it with 'git branch -m swarmq NEW-NAME'"
                if ref.startswith("refs/heads/")
                else f"{repository.path} has a ref named {ref}: remove it with 'git update-ref -d {ref}'"
            )
    if not allow_dirty:
        _refuse_dirty(repository)
    return RepositoryInfo(repository.path, repository.commit, repository.branch)


def changed_in_checkout(git: GitAt, *, untracked: bool = True) -> list[str]:
    """Names of files that are changed, staged or new (not ignored). What submodules hold does not count."""
    status = git.run(
        *("status", "--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=dirty"),
        f"--untracked-files={'normal' if untracked else 'no'}",
    )
    return [shown(entry[3:]) for entry in status.names]


def _refuse_dirty(repository: UserRepository) -> None:
    names = changed_in_checkout(repository.git)
    if not names:
        return
    listed = ", ".join(names[:NAMED_FILES]) + (f" and {len(names) - NAMED_FILES} more" if names[NAMED_FILES:] else "")
    raise UsageError(
        f"{repository.path} has uncommitted changes ({listed}): commit or stash them, "
        "or use --allow-dirty to work without them"
    )


def read_repository(path: Path) -> UserRepository:
    """Blocking. Raises UsageError where ``path`` is in no repository, or in one without a checkout or a commit."""
    if not path.is_dir():
        raise UsageError(f"{path} is not a directory: name the repository with --repo")
    found = GitAt(directory=path).run(
        *("rev-parse", "--path-format=absolute", "--is-bare-repository", "--is-inside-work-tree"),
        *("--show-object-format", "--is-shallow-repository", "--git-common-dir", "--git-path", "objects"),
        *("--show-toplevel", "HEAD^{commit}", "--symbolic-full-name", "HEAD"),
        accept=range(256),
    )
    lines = found.stdout.decode("utf-8", "surrogateescape").splitlines()
    if not lines:
        raise UsageError(_no_repository(path, found.stderr))
    bare, inside, *rest = lines
    if bare == "true":
        raise UsageError(f"{path} is a bare repository: clone it and name the clone")
    if inside != "true":
        raise UsageError(f"{path} is inside a .git directory: name the checkout")
    if found.status != 0:
        raise UsageError(_no_commit(path))
    if len(rest) != 7:
        raise WorkspaceError(f"{path} cannot be used: its path holds a line break")
    object_format, shallow, common_dir, objects, top, commit, head = rest
    branch = head.removeprefix("refs/heads/") if head.startswith("refs/heads/") else None
    return UserRepository(Path(top), commit, branch, Path(common_dir), Path(objects), object_format, shallow == "true")


def _no_commit(path: Path) -> str:
    """Nothing was committed yet, or what HEAD names is lost."""
    head = GitAt(directory=path).run("rev-parse", "--verify", "--quiet", "HEAD", accept=range(256))
    if head.status != 0:
        return f"{path} has no commit yet: make a first one with 'git commit'"
    return (
        f"{path} is damaged: commit {head.text.strip()[:12]}, which HEAD names, cannot be read; "
        "'git fsck' tells what is missing, or name another repository with --repo"
    )


def _no_repository(path: Path, message: str) -> str:
    if "dubious ownership" in message:
        named = re.search(r"in repository at '(.+)'", message)  # the root, of which ``path`` may be a subdirectory
        allowed = shlex.quote(str(Path(named[1]) if named else path.resolve()))
        return (
            f"{path} belongs to another user, and git refuses it: "
            f"allow it with git config --global --add safe.directory {allowed}"
        )
    if "not a git repository" in message:
        resolved = path.resolve()
        for directory in (resolved, *resolved.parents):
            if (directory / ".git").exists():
                return (
                    f"{directory / '.git'} is there, but git cannot use it ({_fault(directory / '.git')}): "
                    "mend it, or name another repository with --repo"
                )
        return f"{path} is not a git repository: run 'git init' and commit there, or name another one with --repo"
    return f"{path} cannot be read as a git repository: {' '.join(message.split())}"


def _fault(git_dir: Path) -> str:
    """Why git takes a directory of its own for none: the first part of it that cannot be read."""
    try:
        if git_dir.is_dir():
            (git_dir / "HEAD").read_bytes()
            list((git_dir / "objects").iterdir())
            list((git_dir / "refs").iterdir())
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    return "its content makes no sense"
