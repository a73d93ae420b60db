"""The supervisor's own socket: a client says that it is there; one that submits, which keys and endpoints it needs.

One line of JSON each way. The keys go this way because a file or a command line would leave them lying about; the
socket is in the private runtime directory.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmq.errors import EnvironmentFault

_READ_SECONDS = 1.0
_LINE_BYTES = 1_000_000


@dataclass
class Caller:
    """A client that waits for its answer."""

    connection: socket.socket
    variables: dict[str, str]
    changed: list[str] = field(default_factory=list)
    """The names among them for which the workers were restarted."""

    def answer(self, state_dir: Path) -> None:
        """Say that the stack runs; a client that has gone away meanwhile does not matter."""
        with self.connection, contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"state_dir": str(state_dir), "changed": self.changed}).encode() + b"\n")


class ControlSocket:
    """The listening side. Its existence means that Valkey answers; it is closed before anything is stopped."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)  # stale: the caller holds the lock of this directory
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> Caller | None:
        """The next caller; None when there is none, or none that makes sense."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return None
        try:
            connection.settimeout(_READ_SECONDS)
            with connection.makefile("rb") as lines:
                asked = json.loads(lines.readline(_LINE_BYTES))
            return Caller(connection, dict(asked["variables"]))
        except (OSError, ValueError, KeyError, TypeError):
            connection.close()
            return None

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)


def call(path: Path, variables: Mapping[str, str], timeout_seconds: float) -> dict[str, Any] | None:
    """Greet the supervisor behind that socket: its answer once the workers know ``variables``, None when none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps({"variables": dict(variables)}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline(_LINE_BYTES)
        except TimeoutError:
            raise EnvironmentFault(
                f"the embedded stack does not answer on {path} within {timeout_seconds:g} s; see 'swarmq status'"
            ) from None
        except OSError:  # no socket, nobody behind it, or a supervisor that just stops
            return None
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
