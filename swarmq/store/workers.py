"""Which workers there are, as they last said themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from swarmq.store import keys
from swarmq.store.codec import dump_value
from swarmq.store.connection import Gate


class Workers:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def announce(self, about: Mapping[str, Any], ttl_seconds: float) -> None:
        """Tell of the worker ``about["name"]``; forgotten after ``ttl_seconds`` without another word."""
        name = about["name"]
        life = max(1, round(ttl_seconds * 1000))
        await self._gate.batch(
            [("SET", keys.WORKER(name), dump_value(dict(about)), "PX", life), ("SADD", keys.WORKERS(), name)]
        )

    async def withdraw(self, name: str) -> None:
        """It has gone of its own accord."""
        await self._gate.batch([("DEL", keys.WORKER(name)), ("SREM", keys.WORKERS(), name)])

    async def list(self) -> Sequence[dict[str, Any]]:
        """Those that are there, by name."""
        names = sorted(raw.decode() for raw in await self._gate.call("SMEMBERS", keys.WORKERS()))
        if not names:
            return []
        said = await self._gate.call("MGET", *map(keys.WORKER, names))
        gone = [name for name, raw in zip(names, said, strict=True) if raw is None]
        if gone:  # one that only was late enters again with its next word
            await self._gate.call("SREM", keys.WORKERS(), *gone)
        return [orjson.loads(raw) for raw in said if raw is not None]
