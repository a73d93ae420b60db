"""The result cache: what equal earlier work gave. 24 h an entry, at most 1,000 entries and 100 MB, oldest out."""

from __future__ import annotations

from typing import Literal

from swarmq.models.base import SCHEMA_VERSION, Record
from swarmq.models.messages import Usage
from swarmq.models.spent import Spent
from swarmq.models.verify import VerifyReport
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import dump, load, pairs
from swarmq.store.connection import Gate

MAX_ENTRIES = 1_000
MAX_BYTES = 100_000_000
COUNTERS = ("bytes", "hits", "misses", "waits", "evictions", "expirations")


class CachedResult(Record):
    """A success, and what it used. ``commit`` is kept alive by git (workspace); ``source`` is swarm/branch."""

    v: Literal[1] = SCHEMA_VERSION
    text: str
    commit: str | None = None
    files: tuple[str, ...] = ()
    steps: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = None
    seconds: float = 0.0
    verify: VerifyReport | None = None
    source: str

    @property
    def spent(self) -> Spent:
        tokens = self.usage.input_tokens + self.usage.output_tokens
        return Spent(steps=self.steps, tokens=tokens, cost_usd=self.cost_usd, seconds=self.seconds)


class Cache:
    """``max_entries`` and ``max_bytes`` are of the whole fleet's cache; all callers should agree on them."""

    def __init__(self, gate: Gate, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._gate, self._max_entries, self._max_bytes = gate, max_entries, max_bytes
        self._keys = (keys.CACHE(), keys.CACHE_AGES(), keys.CACHE_STATS())

    async def get(self, key: str) -> CachedResult | None:
        """Counts a hit or a miss. SchemaError."""
        names = (*self._keys, keys.CACHE_ONCE(new_call_id()))
        raw = await self._gate.script("cache_get", names, (key,))
        return None if raw is None else load(CachedResult, raw, f"cached result {key}")

    async def put(self, key: str, result: CachedResult) -> bool:
        """False where the result alone is larger than the whole cache may be."""
        arguments = (key, dump(result), self._max_entries, self._max_bytes)
        return bool(await self._gate.script("cache_put", self._keys, arguments))

    async def stats(self) -> dict[str, int]:
        """entries, bytes, hits, misses, waits, evictions, expirations."""
        entries, flat = await self._gate.script("cache_stats", self._keys, ())
        counters = pairs(flat)
        return {"entries": int(entries), **{name: int(counters.get(name, 0)) for name in COUNTERS}}

    async def clear(self) -> int:
        """Drop all entries; returns how many there were. The counters stay."""
        return int(await self._gate.script("cache_clear", (*self._keys, keys.CACHE_ONCE(new_call_id())), ()))
