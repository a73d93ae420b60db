"""What the Redis server is, and which of its settings may lose records."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from swarmq.errors import StoreError
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate, silent

CHECK_SECONDS = 2.0
MINIMUM_MAJOR = 7
"""Of Redis' version (Valkey tells one too); nothing older is tested."""


@dataclass(frozen=True)
class Danger:
    """A setting or state of the server under which records may be lost; ``remedy`` mends it."""

    said: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.said}; {self.remedy}"


@dataclass(frozen=True)
class ServerInfo:
    """What answers there."""

    address: str
    server: str
    version: str
    dangers: tuple[Danger, ...] = ()
    used_bytes: int = 0
    max_bytes: int = 0
    """``maxmemory``; 0 where there is no limit."""
    evicts: bool = False
    """Whether a full server drops keys; else it refuses writes."""
    evicted_keys: int = 0
    write_errors: tuple[str, ...] = ()
    """What it cannot save, such as "append-only file"; it then refuses writes (MISCONF)."""

    @property
    def full(self) -> bool:
        """Whether it refuses whatever needs memory."""
        return bool(self.max_bytes) and not self.evicts and self.used_bytes >= self.max_bytes


async def check(url: str) -> ServerInfo:
    """Ask the server what it is, within 2 s. UsageError or StoreError in one line that never shows the password."""
    gate = Gate(parse_address(url), retry_seconds=0, max_connections=1, reply_seconds=CHECK_SECONDS)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await ask(gate)
    except TimeoutError:
        raise StoreError(silent(gate.address, CHECK_SECONDS, TimeoutError("it is silent"))) from None
    finally:
        await gate.aclose()


async def ask(gate: Gate) -> ServerInfo:
    """The same through an open gate. StoreError for a replica, where nothing can be written, and for one that starts:
    it tells of its settings wrongly until it has loaded its data, and takes no other command."""
    reply = await gate.call("INFO")
    lines = (line.partition(":") for line in bytes(reply).decode(errors="replace").splitlines() if ":" in line)
    facts = {name: value.strip() for name, _, value in lines}
    shown = gate.address.shown
    if facts.get("role", "master") != "master":
        raise StoreError(f"Redis at {shown} is a read-only replica; name the primary in redis_url")
    if facts.get("loading", "0") != "0":
        eta = facts.get("loading_eta_seconds", "")
        soon = f", for about {eta} s more" if eta.isdecimal() and eta != "0" else ""
        raise StoreError(f"Redis at {shown} starts and is loading its data{soon}; wait until it is done")
    return ServerInfo(
        shown,
        facts.get("server_name", "redis"),
        facts.get("valkey_version") or facts.get("redis_version", "0"),
        dangers(facts),
        used_bytes=_number(facts, "used_memory"),
        max_bytes=_number(facts, "maxmemory"),
        evicts=facts.get("maxmemory_policy", "noeviction") != "noeviction",
        evicted_keys=_number(facts, "evicted_keys"),
        write_errors=_write_errors(facts),
    )


def dangers(facts: Mapping[str, str]) -> tuple[Danger, ...]:
    """Judges the fields of INFO. Pure."""
    found = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        remedy = "set it to noeviction: redis-cli CONFIG SET maxmemory-policy noeviction"
        found.append(Danger(f"maxmemory-policy is {policy}: a full Redis would drop records", remedy))
    if facts.get("aof_enabled") == "0":
        remedy = "set it to yes: redis-cli CONFIG SET appendonly yes"
        found.append(Danger("appendonly is off: records are lost when Redis dies", remedy))
    major = facts.get("redis_version", "0").partition(".")[0]
    if major.isdecimal() and int(major) < MINIMUM_MAJOR:
        found.append(
            Danger(f"its version is older than {MINIMUM_MAJOR}.0, with which swarmq is not tested", "update it")
        )
    return tuple(found)


def _write_errors(facts: Mapping[str, str]) -> tuple[str, ...]:
    states = {"append-only file": "aof_last_write_status", "snapshot": "rdb_last_bgsave_status"}
    return tuple(what for what, name in states.items() if facts.get(name, "ok") != "ok")


def _number(facts: Mapping[str, str], name: str) -> int:
    value = facts.get(name, "0")
    return int(value) if value.isdecimal() else 0
