"""Models with the fleet's limiter against the scripted server, over real HTTP and a real Valkey."""

from __future__ import annotations

import asyncio
import time

import pytest
from valkey_server import Valkey, ValkeyServer

from swarmq.agent.model_call import Patience, complete
from swarmq.agent.timing import Clock
from swarmq.errors import StoreError
from swarmq.models.limits import Rates, Wish
from swarmq.models.messages import user
from swarmq.models.options import SwarmOptions
from swarmq.providers.limiter import Caller
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, Settings
from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.testing import Script, ScriptedServer

SCRIPT = """
conversations:
  - match: refused
    turns: [{error: {status: 429, retry_after: 0.5}}, {text: Done.}]
  - match: other
    turns: [{text: Done., latency_ms: 20}]
"""


async def ask(models: Models, text: str, caller: Caller) -> str:
    conversation = (await models.open("mine:m")).conversation((), caller)
    conversation.append(user(text))
    try:
        completion = await complete(conversation, Patience.of(SwarmOptions()), Clock())
    finally:
        await conversation.aclose()
    return completion.message.text


async def test_one_call_that_is_refused_holds_all_of_both_workers(valkey: Valkey) -> None:
    waits: list[tuple[str, str]] = []
    waited: list[float] = []

    async def on_wait(endpoint: str, reason: str) -> None:
        waits.append((endpoint, reason))

    async def on_waited(seconds: float) -> None:
        waited.append(seconds)

    server = ScriptedServer(Script.parse(SCRIPT))
    endpoint = EndpointSettings(base_url=f"{await server.start()}/v1", max_concurrency=3)
    stores = [Store(Gate(parse_address(valkey.url), retry_seconds=5, max_connections=4)) for _ in range(2)]
    workers = [Models(Settings(endpoints={"mine": endpoint}), limiter=store.limiter) for store in stores]
    try:
        started = time.monotonic()
        refused = asyncio.create_task(ask(workers[0], "refused", Caller("a")))
        while not server.calls:
            await asyncio.sleep(0.001)
        while not await stores[0].gate.call("EXISTS", keys.LIMITER[0]("mine")) or not await held(stores[0]):
            await asyncio.sleep(0.001)
        calls = [ask(worker, "other", Caller("b", on_wait, on_waited)) for worker in workers for _ in range(5)]
        assert await asyncio.gather(*calls, refused) == ["Done."] * 11
        assert time.monotonic() - started >= 0.5
    finally:
        for store in stores:
            await store.limiter.aclose()
            await store.gate.aclose()
        await server.aclose()
    assert server.calls == 12, "nobody asked while the endpoint was held"
    assert len(waited) >= 10
    assert set(waits) == {("mine", "refused")}
    assert server.peak_in_flight <= 3


async def held(store: Store) -> bool:
    state = await store.gate.call("GET", keys.LIMITER[0]("mine"))
    return b'"misses":1' in state


async def test_an_absent_redis_is_a_store_error_for_callers_and_waiters(own_valkey: ValkeyServer) -> None:
    gate = Gate(parse_address(own_valkey.url()), retry_seconds=0.3, max_connections=4, reply_seconds=0.2)
    store, told = Store(gate), asyncio.Event()

    async def on_wait(reason: str) -> None:
        told.set()

    wish = Wish("mine", Rates(max_concurrency=1), "s", 0)
    try:
        held = await store.limiter.acquire(wish, on_wait)
        waiting = asyncio.create_task(store.limiter.acquire(wish, on_wait))
        await told.wait()
        own_valkey.kill()
        for call in (waiting, store.limiter.acquire(wish, on_wait)):
            with pytest.raises(StoreError, match="does not answer"):
                await call
        assert held.waited_seconds == 0
    finally:
        await store.limiter.aclose()
        await gate.aclose()
