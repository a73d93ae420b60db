"""One HTTP/1.1 connection of the scripted server: callbacks and a timer, no task, so that thousands cost little."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import h11

MAX_BODY_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent after ``delay_seconds``. ``drop`` closes the connection before it or in the middle of it."""

    status: int
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    delay_seconds: float = 0.0
    drop: Literal["before", "middle"] | None = None


class Service(Protocol):
    """What the connections report to."""

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection, waiting: bool) -> None:
        """``waiting``: the client went away while its answer was pending."""

    def reply(self, method: str, path: str, body: bytes) -> Reply: ...

    def replied(self) -> None: ...


class Connection(asyncio.Protocol):
    """Reads requests and sends each one's reply when its time has come."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._service.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        waiting = self._timer is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self._service.closed(self, waiting)

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def abort(self) -> None:
        """Cut the connection from this side; a pending answer is not sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._service.replied()
        if self._transport is not None:
            self._transport.abort()

    def _advance(self) -> None:
        while self._timer is None and self._transport is not None:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body, self._body_bytes = event, [], 0
            elif isinstance(event, h11.Data):
                self._body.append(event.data)
                self._body_bytes += len(event.data)
                if self._body_bytes > MAX_BODY_BYTES:
                    self._refuse(413, f"the body is over {MAX_BODY_BYTES} bytes")
                    return
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._schedule(self._request)
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return
            else:  # NEED_DATA, or PAUSED until the reply is out
                return

    def _schedule(self, request: h11.Request) -> None:
        path = request.target.decode("ascii").partition("?")[0]
        reply = self._service.reply(request.method.decode("ascii"), path, b"".join(self._body))
        self._request, self._body = None, []
        self._timer = asyncio.get_running_loop().call_later(reply.delay_seconds, self._send, reply)

    def _send(self, reply: Reply) -> None:
        self._timer = None
        self._service.replied()
        if self._transport is None:
            return
        if reply.drop == "before":
            self._transport.abort()
            return
        self._write(reply, reply.body[: len(reply.body) // 2] if reply.drop else reply.body)
        if reply.drop or self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._advance()

    def _write(self, reply: Reply, body: bytes) -> None:
        if self._transport is None:
            return
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(reply.body))),
            *reply.headers,
        ]
        out = [
            self._http.send(h11.Response(status_code=reply.status, headers=headers, reason=b"")),
            self._http.send(h11.Data(data=body)),
        ]
        if len(body) == len(reply.body):
            out.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in out if part))

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no proper request, and close."""
        if self._transport is None:
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("content-type", "text/plain"), ("connection", "close")]
            response = h11.Response(status_code=status, headers=headers, reason=b"")
            for event in (response, h11.Data(data=message.encode()), h11.EndOfMessage()):
                self._transport.write(self._http.send(event) or b"")
        self._transport.close()
