"""One conversation's connection to its endpoint.

Each conversation has an httpx transport of its own: a pool shared by 100 calls in flight was measured at 13 ms of CPU
a call, one of its own at under 1 ms. ``httpx.AsyncClient`` on top of it costs a third more for cookies, redirects and
events that are of no use here.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence

import httpx

from swarmq.errors import ModelError, PermanentModelError, TransientModelError
from swarmq.models.limits import NO_SIGNS, RateSigns
from swarmq.providers.errors import http_time, model_error
from swarmq.providers.rate_signs import limit_headers, rate_signs

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 60.0  # tools run between two calls of a branch; a new TLS connection costs more than an idle one
SAME_CLOCK_SECONDS, MOST_OFF_SECONDS = 5.0, 10 * 365 * 86_400.0
MAX_ANSWER_BYTES = 16_000_000  # far above any answer; parsing more would hold up the event loop

# The call as a whole has a time-out; these would only add a timer to each read and write.
_TIMEOUTS = {"timeout": {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None}}
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
# Answers are small: unpacking them would cost more than it saves.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "content-type": "application/json"}
# A model thinks for minutes without a byte; NATs and balancers forget connections that are so quiet.
_SOCKET_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


class Channel:
    """Posts JSON to one URL.

    ``headers`` has lower-case names, ``transport`` is for tests, ``secret`` is kept out of error messages.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        *,
        secret: str | None = None,
        use_proxies: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._name = name
        self._url = httpx.URL(url)
        self._headers = {"host": self._url.netloc.decode("ascii"), **_HEADERS, **headers}
        self._secret = secret
        self.signs: RateSigns = NO_SIGNS
        """What the last answer said of the endpoint's limits."""
        self._transport = transport or _transport(self._url, use_proxies)

    async def post(self, body: Sequence[bytes], timeout_seconds: float) -> bytes:
        """The body of the answer to a body given in chunks. Raises TransientModelError or PermanentModelError."""
        headers = {**self._headers, "content-length": str(sum(map(len, body)))}
        request = httpx.Request("POST", self._url, headers=headers, stream=_Chunks(body), extensions=_TIMEOUTS)
        self.signs = NO_SIGNS
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._transport.handle_async_request(request)
                answer = await self._read(response)
        except TimeoutError:
            raise TransientModelError(f"{self._name}: no answer within {timeout_seconds:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise self._connection_error(error) from None
        self.signs = rate_signs(limit_headers(response.headers.raw), server_time(response.headers, time.time()))
        if not response.is_success:
            raise self._refusal(response, answer)
        return answer

    def named(self, error: ModelError) -> ModelError:
        """The same error, told of this endpoint and without the key, which some servers repeat."""
        text = f"{self._name}: {error}"
        if self._secret:
            text = text.replace(self._secret, "[key]")
        return type(error)(text, error.status, error.retry_after_seconds)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _read(self, response: httpx.Response) -> bytes:
        chunks, size_bytes = [], 0
        try:
            async for chunk in response.aiter_bytes():
                size_bytes += len(chunk)
                if size_bytes > MAX_ANSWER_BYTES:
                    raise PermanentModelError(f"{self._name}: the answer is over {MAX_ANSWER_BYTES:,} bytes")
                chunks.append(chunk)
        finally:
            await response.aclose()
        return b"".join(chunks)

    def _refusal(self, response: httpx.Response, body: bytes) -> ModelError:
        if response.is_redirect:
            target = response.headers.get("location", "elsewhere")
            return self.named(
                PermanentModelError(f"redirected to {target}: set base_url to that", response.status_code)
            )
        headers = dict(response.headers)
        return self.named(model_error(response.status_code, headers, body, server_time(headers, time.time())))

    def _connection_error(self, error: httpx.TransportError | httpx.DecodingError) -> ModelError:
        root = _root_cause(error)
        text = f"{self._url.scheme}://{self._url.netloc.decode()}: {_what_happened(error, root)}"
        # Neither a certificate nor a request that cannot be written gets better by asking again.
        permanent = ssl.SSLCertVerificationError, httpx.UnsupportedProtocol, httpx.LocalProtocolError
        if isinstance(root, permanent) or isinstance(error, permanent):
            return self.named(PermanentModelError(text))
        return self.named(TransientModelError(text))


def server_time(headers: Mapping[str, str], now: float) -> float:
    """Unix seconds by the clock that the times in an answer's headers go by; ``now`` is ours, which may be wrong.

    Where the two agree, as far as whole seconds and the way here allow, ours is the finer one.
    """
    told = http_time(headers.get("date", ""))
    off_seconds = 0.0 if told is None else abs(told - now)
    return now if told is None or not SAME_CLOCK_SECONDS < off_seconds < MOST_OFF_SECONDS else told


class _Chunks(httpx.AsyncByteStream):
    """A request body that is sent from where it lies."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


@functools.cache
def verified_context() -> ssl.SSLContext:
    """The process's one TLS context: loading the certificates takes 20 ms and 1 MB."""
    return httpx.create_ssl_context()


@functools.cache
def _unused() -> ssl.SSLContext:
    """For plain http: knows no certificate, so that nothing could be trusted by mistake, and costs nothing."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _transport(url: httpx.URL, use_proxies: bool) -> httpx.AsyncHTTPTransport:
    proxy = _proxy(url) if use_proxies else None
    context = verified_context() if url.scheme == "https" or proxy else _unused()
    return httpx.AsyncHTTPTransport(verify=context, limits=_LIMITS, proxy=proxy, socket_options=_SOCKET_OPTIONS)


def _proxy(url: httpx.URL) -> str | None:
    """The system's proxy for this URL (HTTPS_PROXY, NO_PROXY and so on)."""
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _what_happened(error: Exception, root: BaseException) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(root, OSError) and not isinstance(root, ssl.SSLError) and (root.errno or 0) > 0:
        return os.strerror(root.errno or 0).lower()
    return str(root) or type(root).__name__


def _root_cause(error: BaseException) -> BaseException:
    """The exception that says what happened; httpx and httpcore wrap it in ones of their own."""
    while (cause := error.__cause__ or error.__context__) is not None:
        if isinstance(error, BaseExceptionGroup) or not isinstance(cause, Exception | BaseExceptionGroup):
            break
        error = cause
    return error
