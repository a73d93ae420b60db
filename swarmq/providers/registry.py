"""From ``endpoint:NAME`` to a model that can be talked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from swarmq.errors import EnvironmentFault, UsageError
from swarmq.providers.anthropic import AnthropicDialect
from swarmq.providers.base import ChatModel, Dialect
from swarmq.providers.http_model import Admission, HttpModel
from swarmq.providers.limiter import Limiter, Unlimited
from swarmq.providers.openai import OpenAIDialect
from swarmq.providers.prices import FREE, Price, price_of
from swarmq.providers.transport import Channel
from swarmq.providers.windows import DEFAULT_WINDOW_TOKENS, context_window_tokens
from swarmq.settings import EndpointSettings, Settings

if TYPE_CHECKING:
    from swarmq.testing import ScriptedServer

SCRIPTED = "scripted"


@dataclass(frozen=True, slots=True)
class _ScriptFile:
    """A script as it was when it was read: a file that was edited since is another one."""

    path: Path
    modified_ns: int
    size_bytes: int


class Models:
    """The models of one process and event loop, with at most ``calls_per_worker`` calls of an endpoint at once."""

    def __init__(
        self,
        settings: Settings,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        *,
        limiter: Limiter | None = None,
    ) -> None:
        """``limiter`` is the fleet's; None: nothing but ``calls_per_worker`` holds calls back.

        ``transport`` makes what each conversation sends through; for tests.
        """
        self._settings = settings
        self._transport = transport
        self._open: dict[str | _ScriptFile, ChatModel] = {}
        self._limiter = limiter or Unlimited()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._prices: dict[str, Price | None] = {}
        self._servers: list[ScriptedServer] = []
        self._starting = asyncio.Lock()

    def check(self, spec: str) -> None:
        """Whether ``spec`` can be opened here. Raises UsageError or EnvironmentFault, each with the way out."""
        self.check_name(spec)
        endpoint_name, _ = self._split(spec)
        if endpoint_name != SCRIPTED:
            self._key(endpoint_name, self._endpoint(endpoint_name))

    def check_name(self, spec: str) -> None:
        """Whether ``spec`` names an endpoint that is known here, or a script, whoever has the key. UsageError."""
        endpoint_name, name = self._split(spec)
        if endpoint_name == SCRIPTED:
            from swarmq.testing import Script  # with yaml a twentieth of a worker's start; few ever run a script

            Script.load(_script_file(name).path)
        else:
            self._endpoint(endpoint_name)

    def check_form(self, spec: str) -> None:
        """Whether ``spec`` is written as a model is, whoever knows its endpoint. UsageError."""
        self._split(spec)

    async def open(self, spec: str) -> ChatModel:
        """The model of ``spec``, the same one each time. Raises what ``check`` raises."""
        endpoint_name, name = self._split(spec)
        if endpoint_name == SCRIPTED:
            return await self._open_scripted(spec, _script_file(name))
        if spec not in self._open:
            endpoint = self._endpoint(endpoint_name)
            key = self._key(endpoint_name, endpoint)
            window = endpoint.context_window_tokens or context_window_tokens(name)
            self._open[spec] = self._model(spec, endpoint_name, endpoint, name, key, window)
        return self._open[spec]

    def price(self, spec: str) -> Price | None:
        """What calls of ``spec`` cost; None where nobody knows. UsageError for an unknown endpoint."""
        if spec not in self._prices:
            endpoint_name, name = self._split(spec)
            known = FREE if endpoint_name == SCRIPTED else price_of(self._endpoint(endpoint_name), name)
            self._prices[spec] = known
        return self._prices[spec]

    async def aclose(self) -> None:
        """Stop the scripted servers. Conversations are closed by whoever opened them."""
        servers, self._servers = self._servers, []
        self._open.clear()
        for server in servers:
            await server.aclose()

    async def _open_scripted(self, spec: str, file: _ScriptFile) -> ChatModel:
        from swarmq.testing import Script, ScriptedServer

        async with self._starting:
            if file not in self._open:
                script = await asyncio.to_thread(Script.load, file.path)
                server = ScriptedServer(script)
                url = await server.start()
                self._servers.append(server)
                base_url = f"{url}/v1" if script.dialect == "openai" else url
                endpoint = EndpointSettings(dialect=script.dialect, base_url=base_url)
                self._open[file] = self._model(spec, SCRIPTED, endpoint, SCRIPTED, None, DEFAULT_WINDOW_TOKENS)
            return self._open[file]

    def _model(
        self, spec: str, endpoint_name: str, endpoint: EndpointSettings, name: str, key: str | None, window: int
    ) -> HttpModel:
        dialect = _dialect(endpoint, name)
        # Lower-case, so that an endpoint's own header replaces one of ours however it is written.
        headers = {**dialect.headers(key), **{name.lower(): value for name, value in endpoint.headers.items()}}
        url = endpoint.base_url.rstrip("/") + dialect.path

        def connect() -> Channel:
            transport = self._transport() if self._transport else None
            # A proxy of the system is for the world, not for the scripted server in this process.
            use_proxies = endpoint_name != SCRIPTED
            return Channel(endpoint_name, url, headers, secret=key, use_proxies=use_proxies, transport=transport)

        slots = self._slots.setdefault(endpoint_name, asyncio.Semaphore(self._settings.calls_per_worker))
        limiter = Unlimited() if endpoint_name == SCRIPTED else self._limiter
        return HttpModel(spec, window, dialect, connect, Admission(endpoint_name, endpoint.rates(), limiter, slots))

    def _split(self, spec: str) -> tuple[str, str]:
        endpoint_name, colon, name = spec.partition(":")
        if not colon or not endpoint_name or not name.strip():
            raise UsageError(f"model {spec!r}: write ENDPOINT:NAME; endpoints are {self._known()}")
        return endpoint_name, name

    def _endpoint(self, name: str) -> EndpointSettings:
        endpoint = self._settings.endpoint(name)
        if endpoint is None:
            raise UsageError(
                f"unknown model endpoint {name!r}: known are {self._known()}; add [endpoints.{name}] to swarmq.toml"
            )
        return endpoint

    def _key(self, name: str, endpoint: EndpointSettings) -> str | None:
        variable = endpoint.api_key_env
        if variable is None:
            return None
        key = (self._settings.secret(variable) or "").strip()
        if not key:
            raise EnvironmentFault(f"no key for model endpoint {name!r}: set the variable {variable}")
        if not (key.isascii() and key.isprintable()):
            raise EnvironmentFault(f"the key in {variable} holds characters that no key has; set it again")
        return key

    def _known(self) -> str:
        return ", ".join([*self._settings.endpoint_names(), f"{SCRIPTED}:FILE"])


def _dialect(endpoint: EndpointSettings, model: str) -> Dialect:
    if endpoint.dialect == "anthropic":
        return AnthropicDialect(model)
    return OpenAIDialect(model, endpoint.max_tokens_parameter)


def _script_file(name: str) -> _ScriptFile:
    path = Path(name)
    if not path.is_absolute():
        raise UsageError(f"model scripted:{name}: give the script's absolute path, as workers run elsewhere")
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"model scripted:{name}: {error.strerror}") from None
    return _ScriptFile(path, status.st_mtime_ns, status.st_size)
