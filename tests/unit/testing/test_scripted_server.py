from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from swarmq.testing import Script, ScriptedServer, connection, scripted

PATIENCE_SECONDS = 10
SCRIPT = Script.parse(
    """
    conversations:
      - {match: hello, turns: [{text: hi}]}
      - {match: slow, turns: [{text: hi, latency_ms: 3600000}]}
    """
)


class Client:
    """A raw connection, so that what goes over the wire is seen as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, body: bytes, path: str = "/v1/chat/completions", method: str = "POST", extra: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        self.writer.write(head.encode() + body)

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            return int(lines[0].split()[1]), await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(SCRIPT)
    yield server
    await server.aclose()


async def connect(url: str) -> Client:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return Client(*await asyncio.open_connection(host, int(port)))


def request(text: str, **fields: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **fields})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def test_both_dialects_are_answered_on_one_connection(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("hello"))
    status, body = await client.answer()
    assert (status, orjson.loads(body)["choices"][0]["message"]["content"]) == (200, "hi")
    client.send(request("hello", max_tokens=5), "/v1/messages?beta=true")
    status, body = await client.answer()
    assert (status, orjson.loads(body)["content"][0]["text"]) == (200, "hi")
    assert (server.calls, server.open_connections, server.in_flight) == (2, 1, 0)
    client.writer.close()


async def test_pipelined_requests_are_answered_in_order(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("hello"))
    client.send(request("bye"))
    assert [(await client.answer())[0], (await client.answer())[0]] == [200, 400]
    client.writer.close()


async def test_a_body_may_come_in_pieces(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    body = request("hello" * 1000)
    client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 1000):
        client.writer.write(body[start : start + 1000])
        await client.writer.drain()
    assert (await client.answer())[0] == 200
    client.writer.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "/v1/embeddings", b"{}", 404, "no such path: /v1/embeddings"),
        ("GET", "/v1/messages", b"", 405, "takes POST"),
        ("POST", "/v1/messages", b"{", 400, "unexpected end"),
        ("POST", "/v1/messages", b"{}", 400, "at least one message"),
        ("POST", "/v1/chat/completions", b"[]", 400, "at least one message"),
        ("POST", "/v1/chat/completions", request("bye"), 400, "it has 'hello', 'slow'"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    server: ScriptedServer, method: str, path: str, body: bytes, status: int, told: str
) -> None:
    client = await connect(await server.start())
    client.send(body, path, method)
    answered, answer = await client.answer()
    assert answered == status
    assert told in orjson.loads(answer)["error"]["message"]
    client.writer.close()


async def test_what_is_not_http_is_refused_and_closed(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.writer.write(b"nonsense\r\n\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 400")
    await until(lambda: server.open_connections == 0)
    client.writer.close()


async def test_a_body_over_the_limit_is_refused(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY_BYTES", 100)
    client = await connect(await server.start())
    client.send(b"x" * 101)
    assert (await client.rest()).startswith(b"HTTP/1.1 413")
    client.writer.close()


async def test_connection_close_is_honoured(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("hello"), extra="connection: close\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 200")
    client.writer.close()


async def test_a_client_that_goes_away_is_noticed(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("slow"))
    await until(lambda: server.in_flight == 1)
    client.writer.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await server.client_gone.wait()
    assert (server.in_flight, server.open_connections, server.clients_gone) == (0, 0, 1)
    assert len(server.clients_gone_at) == 1


async def test_a_client_that_leaves_after_its_answer_is_not_counted(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("hello"))
    await client.answer()
    client.writer.close()
    await until(lambda: server.open_connections == 0)
    assert server.clients_gone == 0


async def test_closing_cuts_pending_answers_without_counting_them_as_left(server: ScriptedServer) -> None:
    client = await connect(await server.start())
    client.send(request("slow"))
    await until(lambda: server.in_flight == 1)
    await server.aclose()
    assert await client.rest() == b""
    assert (server.in_flight, server.open_connections, server.clients_gone) == (0, 0, 0)
    client.writer.close()


async def test_statistics_are_told_over_http(server: ScriptedServer) -> None:
    url = await server.start()
    client, slow = await connect(url), await connect(url)
    slow.send(request("slow"))
    await until(lambda: server.in_flight == 1)
    client.send(b"", "/stats", "GET")
    status, body = await client.answer()
    assert status == 200
    assert orjson.loads(body) == {
        "calls": 1,
        "open_connections": 2,
        "in_flight": 1,
        "peak_in_flight": 1,
        "clients_gone": 0,
        "clients_gone_at": [],
    }
    for each in (client, slow):
        each.writer.close()


@pytest.mark.parametrize("keep_bodies", [False, True])
async def test_the_log_is_bounded_and_holds_bodies_only_if_asked(
    keep_bodies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "LOG_LENGTH", 2)
    async with (server := ScriptedServer(SCRIPT, keep_bodies=keep_bodies)) as url:
        client = await connect(url)
        for text in ("hello 1", "hello 2", "bye"):
            client.send(request(text))
            await client.answer()
        client.writer.close()
    assert [(logged.status, logged.match) for logged in server.requests] == [(200, "hello"), (400, None)]
    assert server.requests[0].payload == (orjson.loads(request("hello 2")) if keep_bodies else None)
    assert server.requests[0].body_bytes == len(request("hello 2"))


async def test_it_can_be_started_again(server: ScriptedServer) -> None:
    await server.start()
    await server.aclose()
    await server.aclose()
    client = await connect(await server.start())
    client.send(request("hello"))
    assert (await client.answer())[0] == 200
    client.writer.close()
