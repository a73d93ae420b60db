"""A model server that follows a script, over real HTTP, in both dialects."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from swarmq.testing.connection import Connection, Reply
from swarmq.testing.dialects import Asked, BadRequest, answer, error, read
from swarmq.testing.script import Dialect, Playback, Script, Turn

PATHS: dict[str, Dialect] = {"/v1/chat/completions": "openai", "/v1/messages": "anthropic"}
STATS_PATH = "/stats"
LOG_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request as the server saw it. ``at`` is time.monotonic(); ``payload`` only where bodies are kept."""

    at: float
    path: str
    status: int
    body_bytes: int
    match: str | None = None
    answers: int = 0
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What ``GET /stats`` tells. ``clients_gone_at`` (time.monotonic()) are those that left before their answer."""

    calls: int
    open_connections: int
    in_flight: int
    peak_in_flight: int
    clients_gone: int
    clients_gone_at: tuple[float, ...]


class ScriptedServer:
    """Answers ``/v1/chat/completions`` and ``/v1/messages`` by the script; see swarmq.testing.script.

    ``requests`` is a log of the last ones, ``calls`` counts all, ``client_gone`` is set (and stays so until cleared)
    when a client goes away while its answer is pending.
    """

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0, *, keep_bodies: bool = False) -> None:
        self._script = script
        self._playback = Playback(script)
        self._host = host
        self._port = port
        self._keep_bodies = keep_bodies
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        # Unique over restarts too: a conversation that is resumed must not see an id again.
        prefix = secrets.token_hex(3)
        self._ids = (f"{prefix}{number:06d}" for number in itertools.count(1))
        self.requests: deque[LoggedRequest] = deque(maxlen=LOG_LENGTH)
        self.calls = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.clients_gone = 0
        self.clients_gone_at: deque[float] = deque(maxlen=LOG_LENGTH)
        self.client_gone = asyncio.Event()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def stats(self) -> Stats:
        return Stats(
            self.calls,
            self.open_connections,
            self.in_flight,
            self.peak_in_flight,
            self.clients_gone,
            tuple(self.clients_gone_at),
        )

    async def start(self) -> str:
        """Listen; returns the URL, without a path."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self._host, self._port, backlog=1024)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def aclose(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        self.cut_connections()
        await server.wait_closed()

    def cut_connections(self) -> None:
        """Close all connections from this side; pending answers are not sent."""
        for connection in tuple(self._connections):
            connection.abort()

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection, waiting: bool) -> None:
        self._connections.discard(connection)
        if waiting:
            self.in_flight -= 1
            self.clients_gone += 1
            self.clients_gone_at.append(time.monotonic())
            self.client_gone.set()

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        stats = orjson.dumps(asdict(self.stats())) if path == STATS_PATH else None
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if stats is not None:
            return Reply(200, stats)
        dialect = PATHS.get(path)
        if dialect is None:
            return self._refuse("openai", 404, f"no such path: {path}", path, body)
        if method != "POST":
            return self._refuse(dialect, 405, f"{path} takes POST", path, body)
        self.calls += 1
        try:
            payload = orjson.loads(body)
            asked = read(dialect, payload, body)
            match, turn = self._playback.turn(asked.system, asked.user, asked.answers)
        except (orjson.JSONDecodeError, BadRequest) as problem:
            return self._refuse(dialect, 400, str(problem), path, body)
        except LookupError as problem:
            return self._refuse(dialect, 400, str(problem.args[0]), path, body)
        reply = self._reply(dialect, turn, asked, len(body))
        kept = payload if self._keep_bodies else None
        self._log(LoggedRequest(time.monotonic(), path, reply.status, len(body), match, asked.answers, kept))
        return reply

    def replied(self) -> None:
        self.in_flight -= 1

    def _reply(self, dialect: Dialect, turn: Turn, asked: Asked, body_bytes: int) -> Reply:
        latency_ms = self._script.latency_ms if turn.latency_ms is None else turn.latency_ms
        delay_seconds = latency_ms / 1000
        if turn.error is not None:
            retry_after = turn.error.retry_after
            headers = [("retry-after", str(retry_after))] if retry_after is not None else []
            body = error(dialect, turn.error.status, turn.error.message, turn.error.type)
            return Reply(turn.error.status, body, headers, delay_seconds)
        body = answer(dialect, turn, asked, body_bytes, self._ids)
        if turn.malformed:
            body = body[: len(body) // 2]
        return Reply(200, body, (), delay_seconds, turn.drop)

    def _refuse(self, dialect: Dialect, status: int, message: str, path: str, body: bytes) -> Reply:
        self._log(LoggedRequest(time.monotonic(), path, status, len(body)))
        return Reply(status, error(dialect, status, message))

    def _log(self, request: LoggedRequest) -> None:
        self.requests.append(request)
