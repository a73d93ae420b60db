"""Where the embedded stack keeps its files, and whether those places are fit for it.

What must outlive a reboot (data, password, logs, the record of what runs) is in the state directory; what must not
(sockets, the URL file, heartbeats) is in the runtime directory, which no other user may read.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from swarmq.errors import EnvironmentFault

if TYPE_CHECKING:  # pydantic alone would double what the supervisor needs to start
    from swarmq.settings import Settings

WAY_OUT = "choose another with SWARMQ_RUNTIME_DIR"
SOCKET_PATH_BYTES = 103
"""Longest path of a socket that both macOS (104 with its end mark) and Linux (108) take."""


@dataclass(frozen=True)
class Layout:
    """The paths of one stack. There is one stack per state directory: two Valkeys on one data directory ruin it."""

    state_dir: Path
    runtime_dir: Path

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        """Absolute, because the processes of the stack run in a directory of their own."""
        return cls(settings.state_dir.expanduser().absolute(), settings.runtime_dir.expanduser().absolute())

    @property
    def stack_dir(self) -> Path:
        return self.state_dir / "stack"

    @property
    def data_dir(self) -> Path:
        return self.stack_dir / "valkey"

    @property
    def log_dir(self) -> Path:
        return self.stack_dir / "logs"

    @property
    def lock(self) -> Path:
        return self.stack_dir / "lock"

    @property
    def record(self) -> Path:
        return self.stack_dir / "stack.json"

    @property
    def password(self) -> Path:
        return self.stack_dir / "password"

    @property
    def valkey_config(self) -> Path:
        return self.stack_dir / "valkey.conf"

    @property
    def socket(self) -> Path:
        return self.runtime_dir / "valkey.sock"

    @property
    def control(self) -> Path:
        return self.runtime_dir / "control.sock"

    @property
    def runtime_lock(self) -> Path:
        return self.runtime_dir / "lock"

    @property
    def url_file(self) -> Path:
        return self.runtime_dir / "redis-url"

    @property
    def touch(self) -> Path:
        return self.runtime_dir / "touch"

    @property
    def workers_dir(self) -> Path:
        return self.runtime_dir / "workers"

    def log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"


def prepare_state(layout: Layout) -> None:
    """Make the private directories of the stack; EnvironmentFault names the one that cannot be made or written."""
    for directory in (layout.state_dir, layout.stack_dir, layout.data_dir, layout.log_dir):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise state_fault(directory, error) from None
        if not os.access(directory, os.W_OK | os.X_OK):
            raise EnvironmentFault(f"state directory {directory}: not writable; choose another with SWARMQ_STATE_DIR")


def state_fault(path: Path, error: OSError) -> EnvironmentFault:
    """What a user is told when the state directory refuses."""
    return EnvironmentFault(f"state directory: {path}: {error.strerror}; choose another with SWARMQ_STATE_DIR")


def prepare_runtime(layout: Layout) -> None:
    """Make the runtime directory, private to this user; refuses one of somebody else, whose sockets we would trust."""
    directory = layout.runtime_dir
    for path in (layout.socket, layout.control):
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            limit = f"a socket's path may have {SOCKET_PATH_BYTES} bytes"
            raise EnvironmentFault(f"runtime directory {directory}: too long, {limit}; {WAY_OUT}")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(directory)
        layout.workers_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"runtime directory {directory}: {error.strerror}; {WAY_OUT}") from None


def check_private(directory: Path) -> None:
    """Raise EnvironmentFault unless the directory is this user's own and nobody else can write to it."""
    about = directory.lstat()  # not stat: a planted symlink would lead to a directory of somebody's choice
    if not stat.S_ISDIR(about.st_mode):
        raise EnvironmentFault(f"runtime directory {directory}: not a directory; {WAY_OUT}")
    if about.st_uid != os.geteuid():
        raise EnvironmentFault(
            f"runtime directory {directory}: belongs to another user (uid {about.st_uid}); {WAY_OUT}"
        )
    if about.st_mode & 0o022:
        raise EnvironmentFault(f"runtime directory {directory}: others may write to it; chmod 700 it, or {WAY_OUT}")
    if about.st_mode & 0o077:
        directory.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace the file at once, readable by this user alone."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def read_password(layout: Layout, *, create: bool = False) -> str:
    """The stack's password. It stays the same over restarts, so that long-lived clients find their way back."""
    if create and not layout.password.exists():
        write_private(layout.password, secrets.token_urlsafe(32))
    return layout.password.read_text()


def redis_url(layout: Layout, password: str) -> str:
    """The URL in Celery's words; the store translates it for redis-py."""
    return f"redis+socket://:{quote(password, safe='')}@{quote(str(layout.socket))}?virtual_host=0"
