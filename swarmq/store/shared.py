"""Shared results: what branches of a swarm tell each other while they run. Each one is written and read whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson

from swarmq.errors import ToolError, UsageError
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import check_version, dump_value, pairs
from swarmq.store.connection import Gate
from swarmq.store.schema import infer_schema

MAX_KEY_CHARACTERS = 200
MAX_TAGS = 32
MAX_TAG_CHARACTERS = 300
MAX_VALUE_BYTES = 1_000_000
MAX_SWARM_BYTES = 64_000_000
"""All shared results of a swarm: agents are untrusted, and Redis is everybody's."""
RECHECK_SECONDS = 5.0
"""Waiting is rung up by the doorbell; this is for a ring that was lost with its connection."""
_PAGE = 20
"""Results that are fetched and parsed in one go: large ones must not hold up the other agents of the loop."""


@dataclass(frozen=True, slots=True)
class SharedResult:
    """``schema`` is inferred from the value. Times are Unix seconds by the clock of Redis; ``expires_at`` 0: never."""

    key: str
    producer: str
    value: Any
    schema: dict[str, Any]
    tags: tuple[str, ...]
    published_at: float
    expires_at: float


class Shared:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def bound(self, swarm_id: str, branch_id: str, token: int | None = None) -> BoundShared:
        """As one branch sees it. With its fencing token, a holder that lost the lease can publish nothing."""
        return BoundShared(self, swarm_id, branch_id, token)

    async def publish(
        self,
        swarm_id: str,
        key: str,
        producer: str,
        value: Any,
        tags: Iterable[str] = (),
        ttl_seconds: float | None = None,
        *,
        token: int | None = None,
    ) -> None:
        """Publish under ``key``, replacing what was there. UsageError names what is too large or no JSON.

        With ``token``, ``producer`` is the branch that holds it; LeaseLost where it is not the newest.
        """
        tags = list(tags)
        _check(key, tags, ttl_seconds)
        try:
            encoded, schema = dump_value(value), dump_value(infer_schema(value))
        except TypeError as error:
            raise UsageError(f"value: {error}") from None
        if len(encoded) > MAX_VALUE_BYTES:
            raise UsageError(f"value: {len(encoded):,} bytes, at most {MAX_VALUE_BYTES:,} can be shared")
        fence = ("", "") if token is None else (producer, token)
        life = "" if ttl_seconds is None else ttl_seconds
        as_json = [dump_value(key), dump_value(producer), schema, dump_value(tags)]
        arguments = (new_call_id(), key, life, MAX_SWARM_BYTES, *fence, encoded, *as_json)
        await self._gate.script("shared_publish", (keys.SWARM(swarm_id),), arguments)

    async def get(self, swarm_id: str, key: str) -> SharedResult | None:
        found = await self._read(swarm_id, [key])
        return found[0] if found else None

    async def list(self, swarm_id: str) -> Sequence[SharedResult]:
        """All results, by key."""
        return await self._find(swarm_id, lambda key, about: True)

    async def query_tags(self, swarm_id: str, tags: Iterable[str]) -> Sequence[SharedResult]:
        """Those with any of the tags, by key."""
        wanted = set(tags)
        return await self._find(swarm_id, lambda key, about: not wanted.isdisjoint(about["tags"]))

    async def query_prefix(self, swarm_id: str, prefix: str) -> Sequence[SharedResult]:
        """Those whose key begins so, by key."""
        return await self._find(swarm_id, lambda key, about: key.startswith(prefix))

    async def by_producer(self, swarm_id: str, producer: str) -> Sequence[SharedResult]:
        return await self._find(swarm_id, lambda key, about: bool(about["producer"] == producer))

    async def wait_for(self, swarm_id: str, key: str, timeout_seconds: float) -> SharedResult | None:
        """The result, as soon as there is one; None when the time is up."""
        found = await self.get(swarm_id, key)
        if found is not None or timeout_seconds <= 0:
            return found
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds), self._gate.listen(keys.SHARED_CHANNEL % swarm_id) as bell:
                while found is None:
                    await _rung(bell)
                    found = await self.get(swarm_id, key)
        return found

    async def subscribe(self, swarm_id: str, pattern: str = "*") -> AsyncGenerator[SharedResult, None]:
        """New results whose key matches the glob, from the first ``anext`` on and without end."""
        news = keys.SHARED_NEWS(swarm_id)
        newest = await self._gate.call("XREVRANGE", news, "+", "-", "COUNT", 1)
        last = newest[0][0] if newest else b"0"
        async with self._gate.listen(keys.SHARED_CHANNEL % swarm_id) as bell:
            while True:
                await _rung(bell)
                reply = await self._gate.call("XREAD", "COUNT", _PAGE, "STREAMS", news, last)
                for entry_id, (_, raw_key) in reply[0][1] if reply else ():
                    last = entry_id
                    bell.set()  # there may be another page
                    if fnmatchcase(raw_key.decode(), pattern):
                        for result in await self._read(swarm_id, [raw_key.decode()]):
                            yield result

    async def _find(self, swarm_id: str, wanted: Callable[[str, dict[str, Any]], bool]) -> Sequence[SharedResult]:
        index = pairs(await self._gate.call("HGETALL", keys.SHARED_INDEX(swarm_id)))
        names = sorted(key for key, raw in index.items() if wanted(key, orjson.loads(raw)))
        found: list[SharedResult] = []
        for start in range(0, len(names), _PAGE):
            found += await self._read(swarm_id, names[start : start + _PAGE])
        return found

    async def _read(self, swarm_id: str, names: Sequence[str]) -> Sequence[SharedResult]:
        found = await self._gate.script("shared_read", (keys.SWARM(swarm_id),), names)
        return [_decode(swarm_id, raw) for raw in found]


@dataclass(frozen=True)
class BoundShared:
    """The shared results of one swarm as one of its agents sees them: what it did wrong is a ToolError."""

    shared: Shared
    swarm_id: str
    branch_id: str
    token: int | None

    async def publish(self, key: str, value: Any, tags: Iterable[str] = (), ttl_seconds: float | None = None) -> None:
        try:
            await self.shared.publish(self.swarm_id, key, self.branch_id, value, tags, ttl_seconds, token=self.token)
        except UsageError as error:
            raise ToolError(str(error)) from None

    async def get(self, key: str) -> SharedResult | None:
        return await self.shared.get(self.swarm_id, key)

    async def list(self) -> Sequence[SharedResult]:
        return await self.shared.list(self.swarm_id)

    async def query_tags(self, tags: Iterable[str]) -> Sequence[SharedResult]:
        return await self.shared.query_tags(self.swarm_id, tags)

    async def query_prefix(self, prefix: str) -> Sequence[SharedResult]:
        return await self.shared.query_prefix(self.swarm_id, prefix)

    async def wait_for(self, key: str, timeout_seconds: float) -> SharedResult | None:
        return await self.shared.wait_for(self.swarm_id, key, timeout_seconds)


async def _rung(bell: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(RECHECK_SECONDS):  # wait_for of Python 3.11 would swallow a cancel that meets a ring
            await bell.wait()
    bell.clear()


def _check(key: str, tags: Sequence[str], ttl_seconds: float | None) -> None:
    if not key or len(key) > MAX_KEY_CHARACTERS:
        raise UsageError(f"key: 1 to {MAX_KEY_CHARACTERS} characters, this one has {len(key)}")
    if len(tags) > MAX_TAGS or any(not tag or len(tag) > MAX_TAG_CHARACTERS for tag in tags):
        raise UsageError(f"tags: at most {MAX_TAGS}, each of 1 to {MAX_TAG_CHARACTERS} characters")
    if ttl_seconds is not None and not 0 < ttl_seconds <= 1e9:
        raise UsageError(f"ttl_seconds: above 0 and at most 1e9, not {ttl_seconds:g}")


def _decode(swarm_id: str, raw: bytes) -> SharedResult:
    fields = orjson.loads(raw)
    check_version(fields.pop("v", None), f"shared result {fields.get('key')!r} of swarm {swarm_id}")
    return SharedResult(**fields | {"tags": tuple(fields["tags"])})
