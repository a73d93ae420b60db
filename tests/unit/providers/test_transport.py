from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.providers import transport
from swarmq.providers.transport import Channel
from swarmq.testing import Script, ScriptedServer

URL = "https://models.example:8443/v1/chat/completions"
SECRET = "sk-very-secret"


def channel(handler: Callable[[httpx.Request], httpx.Response]) -> Channel:
    mock = httpx.MockTransport(handler)
    return Channel("here", URL, {"authorization": f"Bearer {SECRET}"}, secret=SECRET, transport=mock)


def answering(status: int, body: bytes = b"", **headers: str) -> Channel:
    return channel(lambda _: httpx.Response(status, content=body, headers=headers))


def failing(error: Exception) -> Channel:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    return channel(handler)


async def test_chunks_are_sent_as_one_body_with_its_length() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"{}")

    assert await channel(handler).post([b'{"a":', b"1}"], 5) == b"{}"
    request = seen[0]
    assert (request.method, str(request.url), request.content) == ("POST", URL, b'{"a":1}')
    assert dict(request.headers) == {
        "host": "models.example:8443",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": f"Bearer {SECRET}",
        "content-length": "7",
    }


async def test_an_error_answer_is_raised_with_status_wait_and_endpoint() -> None:
    with pytest.raises(TransientModelError) as caught:
        await answering(429, b'{"error": {"message": "slow"}}', **{"Retry-After": "4"}).post([b"{}"], 5)
    assert str(caught.value) == "here: HTTP 429: slow"
    assert (caught.value.status, caught.value.retry_after_seconds) == (429, 4.0)


@pytest.mark.parametrize("ahead_seconds", [-3600, 0, 3600])
async def test_the_servers_times_are_read_by_its_own_clock(ahead_seconds: int) -> None:
    """Ours may be wrong: an hour looks like a limit that is told for an hour, or like none."""
    there = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ahead_seconds)
    later = there + timedelta(seconds=40)
    headers = {
        "Date": format_datetime(there, usegmt=True),
        "Retry-After": format_datetime(later, usegmt=True),
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": later.isoformat(),
    }
    here = answering(429, b"", **headers)
    with pytest.raises(TransientModelError) as caught:
        await here.post([b"{}"], 5)
    assert here.signs.requests is not None
    for seconds in (caught.value.retry_after_seconds, here.signs.requests.reset_seconds):
        assert seconds == pytest.approx(40, abs=5)


@pytest.mark.parametrize("date", ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_date_that_is_none_is_not_believed(date: str) -> None:
    assert transport.server_time({"date": date}, 1_790_000_000.0) == 1_790_000_000.0


async def test_a_key_that_the_server_repeats_is_not_told() -> None:
    with pytest.raises(PermanentModelError) as caught:
        await answering(401, f"Incorrect API key provided: {SECRET}.".encode()).post([b"{}"], 5)
    assert str(caught.value) == "here: HTTP 401: Incorrect API key provided: [key]. (check the key)"


async def test_a_redirect_is_refused_and_says_where_to() -> None:
    with pytest.raises(PermanentModelError, match=r"redirected to https://other\.example/v1"):
        await answering(308, location="https://other.example/v1").post([b"{}"], 5)


async def test_a_packed_answer_is_unpacked_though_none_was_asked_for() -> None:
    with pytest.raises(TransientModelError, match="Error -3"):
        await channel(
            lambda _: httpx.Response(
                200, stream=httpx.ByteStream(b"not gzip at all"), headers={"content-encoding": "gzip"}
            )
        ).post([b"{}"], 5)


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 10)
    with pytest.raises(PermanentModelError, match="over 10 bytes"):
        await answering(200, b"x" * 11).post([b"{}"], 5)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (httpx.ReadError("reset"), "reset"),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), "Server disconnected"),
        (httpx.ConnectTimeout(""), "no connection within 10 s"),
        (httpx.ReadError(""), "ReadError"),
    ],
)
async def test_what_happens_to_connections_may_pass(error: Exception, text: str) -> None:
    with pytest.raises(TransientModelError) as caught:
        await failing(error).post([b"{}"], 5)
    assert str(caught.value).startswith("here: https://models.example:8443: ")
    assert text in str(caught.value)
    assert caught.value.status == 0


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("Illegal header"), httpx.UnsupportedProtocol("no such")])
async def test_what_can_never_be_sent_stays(error: Exception) -> None:
    with pytest.raises(PermanentModelError):
        await failing(error).post([b"{}"], 5)


async def test_a_bad_certificate_stays() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("wrapped") from ssl.SSLCertVerificationError("certificate verify failed")

    with pytest.raises(PermanentModelError, match="certificate verify failed"):
        await channel(handler).post([b"{}"], 5)


async def test_the_time_out_covers_the_whole_call() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    stuck = Channel("here", URL, {}, transport=httpx.MockTransport(handler))
    with pytest.raises(TransientModelError, match=r"here: no answer within 0\.01 s"):
        await stuck.post([b"{}"], 0.01)


async def test_a_refused_connection_says_so(unused_tcp_port: int) -> None:
    refused = Channel("here", f"http://127.0.0.1:{unused_tcp_port}/v1", {})
    with pytest.raises(TransientModelError, match=f"here: http://127.0.0.1:{unused_tcp_port}: connection refused"):
        await refused.post([b"{}"], 5)
    await refused.aclose()


async def test_the_systems_proxy_is_used_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    proxy = ScriptedServer(Script.parse("conversations: [{match: '', turns: [{text: hi}]}]"))
    proxy_url = await proxy.start()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy_url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    closed = f"http://127.0.0.1:{unused_tcp_port}/v1"
    try:
        with pytest.raises(PermanentModelError, match=r"no such path: http://models\.invalid/v1"):
            await post_once(Channel("here", "http://models.invalid/v1", {}))
        with pytest.raises(TransientModelError, match="connection refused"):
            await post_once(Channel("here", closed, {}, use_proxies=False))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(TransientModelError, match="connection refused"):
            await post_once(Channel("here", closed, {}))
    finally:
        await proxy.aclose()


async def post_once(channel: Channel) -> None:
    try:
        await channel.post([b"{}"], 5)
    finally:
        await channel.aclose()


def test_certificates_are_loaded_once_and_only_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ssl.SSLContext] = []

    def load() -> ssl.SSLContext:
        loaded.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return loaded[-1]

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(httpx, "create_ssl_context", load)
    transport.verified_context.cache_clear()
    Channel("here", "http://127.0.0.1:1/v1", {})
    assert not loaded
    Channel("here", URL, {})
    Channel("here", URL, {})
    assert len(loaded) == 1
    transport.verified_context.cache_clear()
