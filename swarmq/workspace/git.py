"""The one place that runs git: through GitPython, with an environment and a configuration of its own.

Repositories, their attributes and whatever an agent wrote are untrusted, and our own process may have been started by
a git hook. So each call gets: no variable of this process but an allow-list (no key reaches a filter, no ``GIT_DIR``
leaks in); hooks, signing, prompts, pagers, fsmonitor, background collection and all transports but local ones off, by
``GIT_CONFIG_*``, which wins over every file; and a git directory that is either ours or the user's. No call ever reads
the git directory of an agent's worktree (private_clone.py). What is left to the user's own choice: filters and merge
drivers of the user's configuration.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from swarmq.errors import DiskFullError, EnvironmentFault, GitTimeout, WorkspaceError
from swarmq.workspace.git_settings import environment

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from git.cmd import Git

OLDEST_GIT = (2, 38)
"""``git merge-tree --write-tree`` came with it."""
TIMEOUT_SECONDS = 600
"""A git command that takes longer is killed: a dead file system, or a filter that waits for ever."""
LOCK_PATIENCE_SECONDS = 15.0
STALE_LOCK_SECONDS = 10.0
"""A lock on a ref or a private index is held for milliseconds; one this old was left by a killed process."""

IDENTITY = "swarmq <swarmq@localhost>"
_DISK_FULL = re.compile("No space left on device|Disk quota exceeded|Out of diskspace|couldn't write '")
"""The last is what git says of a ref that could be opened and not be written, without the reason."""
_TIMED_OUT = 'Timeout: the command "'
"""With this begins what GitPython puts in the place of the messages of a command that it killed."""
_HELD_LOCK = re.compile(r"Unable to create '(?P<lock>.+?\.lock)': File exists", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GitResult:
    """What a command wrote. ``stdout`` may be cut where the caller named a limit."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Output as one stripped text, for ids and other plain words."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def names(self) -> list[str]:
        """NUL-separated output as names that lead back to the same bytes (surrogate escapes)."""
        return [os.fsdecode(name) for name in self.stdout.split(b"\0") if name]


def _now_at(directory: Path) -> float:
    """Unix seconds by the clock that the times of files there are of: on a shared volume it is its server's."""
    with tempfile.TemporaryFile(dir=directory) as probe:
        return os.fstat(probe.fileno()).st_mtime


@dataclass(frozen=True, slots=True)
class GitAt:
    """Where a command runs. Every field is absolute, so that nothing depends on our own working directory."""

    directory: Path | None = None
    """``-C``: for the user's repository, found from there."""
    git_dir: Path | None = None
    work_tree: Path | None = None
    index: Path | None = None
    borrowed: tuple[Path, ...] = ()
    """Object directories that are read as well."""
    private: bool = False
    """The repository is ours alone: a stale lock in it may be broken."""
    timeout_seconds: float = TIMEOUT_SECONDS

    def run(
        self,
        *arguments: str,
        accept: Collection[int] = (0,),
        stdin: bytes | None = None,
        variables: Mapping[str, str] | None = None,
        limit_bytes: int | None = None,
    ) -> GitResult:
        """Run one command to its end; blocking. Raises WorkspaceError with git's reason for other exit codes.

        GitTimeout where it took longer than ``timeout_seconds``.

        A lock that another process holds is waited for up to 15 s. ``limit_bytes`` keeps only that much of the output.
        """
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        pause_seconds = 0.01
        while True:
            result = self._once(arguments, stdin, variables or {}, limit_bytes)
            lock = _HELD_LOCK.search(result.stderr) if result.status != 0 else None
            if lock is None and result.status in accept:
                return result
            if result.stderr.startswith(_TIMED_OUT):
                raise GitTimeout(f"git {arguments[0]} took longer than {self.timeout_seconds:g} s")
            if lock is None or time.monotonic() > deadline:
                kind = DiskFullError if _DISK_FULL.search(result.stderr) else WorkspaceError
                raise kind(f"git {arguments[0]} failed: {_reason(result)}")
            if self.private:
                self._break_stale(Path(lock["lock"]))
            time.sleep(pause_seconds * (0.5 + random.random()))
            pause_seconds = min(0.5, pause_seconds * 2)

    def _once(
        self, arguments: Sequence[str], stdin: bytes | None, variables: Mapping[str, str], limit_bytes: int | None
    ) -> GitResult:
        given, leaking = environment({**self._place(), **variables})
        command = ["git", *arguments]
        place = self.directory or self.work_tree
        if place is not None:
            command[1:1] = ["-C", str(place)]
        if leaking:  # GitPython can set variables but not drop them, and an empty GIT_DIR is not an absent one
            command[:0] = ["env", *(word for name in leaking for word in ("-u", name))]
        head = _Head(limit_bytes) if limit_bytes is not None else None
        with _feed(stdin) as feed, _git_there():
            status, stdout, stderr = _gitpython().execute(
                command,
                istream=feed,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                output_stream=head,
                kill_after_timeout=self.timeout_seconds,
                env=given,
            )
        return GitResult(status, head.getvalue() if head is not None else stdout, stderr)

    def _break_stale(self, lock: Path) -> None:
        """Remove an old lock. Only one of ours: the path comes from messages, in which agents' file names occur."""
        ours = self.index is not None and lock == Path(f"{self.index}.lock")
        if not ours and (self.git_dir is None or ".." in lock.parts or not lock.is_relative_to(self.git_dir)):
            return
        with contextlib.suppress(OSError):  # it went by itself, or the disk is full
            if _now_at(self.git_dir or lock.parent) - lock.stat().st_mtime > STALE_LOCK_SECONDS:
                lock.unlink()

    def _place(self) -> dict[str, str]:
        place: dict[str, str] = {}
        if self.git_dir is not None:
            place["GIT_DIR"] = str(self.git_dir)
        if self.work_tree is not None:
            place["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index is not None:
            place["GIT_INDEX_FILE"] = str(self.index)
        if self.borrowed:
            place["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(quoted(str(path)) for path in self.borrowed)
        return place


class _Head(io.BytesIO):
    """Keeps the first bytes of a stream and lets the rest pass."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, chunk: ReadableBuffer) -> int:
        super().write(memoryview(chunk)[: max(0, self._limit_bytes - self.tell())])
        return len(memoryview(chunk))


@contextlib.contextmanager
def _feed(stdin: bytes | None) -> Iterator[BinaryIO | None]:
    """A file to read ``stdin`` from; a pipe could block on a command that writes before it reads."""
    if stdin is None:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        yield cast(BinaryIO, file)


def _reason(result: GitResult) -> str:
    """The line of git's messages that says what is wrong, without its prefix."""
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    for prefix in ("fatal: ", "error: "):
        for number, line in enumerate(lines):
            if line.startswith(prefix):
                more = lines[number + 1 : number + 2] if line.endswith(":") else []
                return " ".join([line.removeprefix(prefix), *more])
    return lines[-1] if lines else f"exit code {result.status}"


def quoted(path: str) -> str:
    """A path as git reads it in lists of object directories, whatever characters it has."""
    if not any(character in path for character in '":\n\\#'):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def shown(name: str) -> str:
    """A file name for people and records: valid UTF-8, with ``\\xNN`` for bytes that are not."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _git_there() -> Iterator[None]:
    """Tell a git program that has gone in the way all other faults of the machine are told."""
    _gitpython()
    from git.exc import GitCommandNotFound  # loaded by now

    try:
        yield
    except GitCommandNotFound as error:
        raise EnvironmentFault("git cannot be started any more: is it still installed?") from error


@cache
def _gitpython() -> Git:
    """GitPython's runner, in a directory that is always there. Raises EnvironmentFault without a git program.

    Its import takes 0.25 s and runs ``git version``, so it waits until the first call.
    """
    if shutil.which("git") is None:
        raise EnvironmentFault("git was not found on PATH: install git 2.38 or newer")
    try:
        from git.cmd import Git
    except ImportError as error:
        raise EnvironmentFault(f"git does not start: {error}") from error
    return Git("/")


@cache
def require_git() -> None:
    """Raise EnvironmentFault where git is missing or older than 2.38."""
    text = GitAt().run("version").text
    found = re.search(r"(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GIT:
        raise EnvironmentFault(f"{text} is too old: swarmq needs git 2.38 or newer on PATH")
