"""How the fleet does: queues, unacknowledged messages, beat, unfinished swarms. It reads only, and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from swarmq.errors import NotFoundError, SchemaError
from swarmq.models.branch import BranchRecord
from swarmq.models.swarm import SwarmRecord
from swarmq.store import keys
from swarmq.store.branches import Branches
from swarmq.store.codec import dump_value, pairs
from swarmq.store.connection import Gate
from swarmq.store.server import ServerInfo, ask
from swarmq.store.stages import StageRecord, Stages
from swarmq.store.swarms import Swarms

PRIORITY_LISTS = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu keeps the messages of each priority in a list of its own: the length of a queue is that of all."""
UNACKED, UNACKED_INDEX = "unacked", "unacked_index"
"""kombu's, shared by all applications on this database; the scores are the clocks of the workers."""
MOST_SWARMS = 100


@dataclass(frozen=True)
class Tick:
    """When ``reconcile`` last looked at all swarms, by the clock of Redis, and how often beat sends it."""

    at: float
    every_seconds: float


@dataclass(frozen=True)
class JobLook:
    """A job that somebody has claimed and not done or given back."""

    worker: str
    lease_until: float


@dataclass(frozen=True)
class SwarmLook:
    """An unfinished swarm, or one whose producers are still to be told."""

    record: SwarmRecord
    stage: StageRecord | None = None
    branches: Sequence[BranchRecord] = ()
    jobs: Mapping[str, JobLook] = field(default_factory=dict)
    last_event_at: float = 0.0


@dataclass(frozen=True)
class FleetLook:
    """All at about the same moment, ``now`` by the clock of Redis. ``waiting`` are messages by queue."""

    now: float
    server: ServerInfo
    tick: Tick | None
    waiting: Mapping[str, int]
    unacked: int = 0
    oldest_unacked_at: float = 0.0
    swarms: Sequence[SwarmLook] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    """Unfinished swarms beyond ``MOST_SWARMS``."""


class Health:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._swarms, self._stages, self._branches = Swarms(gate), Stages(gate), Branches(gate)

    async def ticked(self, every_seconds: float) -> None:
        """Note that ``reconcile`` has looked at all swarms."""
        await self._gate.call("SET", keys.TICK(), dump_value({"at": await self._gate.now(), "every": every_seconds}))

    async def look(self, queues: Sequence[str], only: str | None = None) -> FleetLook:
        """A few round trips, and a few more for each unfinished swarm, or for ``only`` that one. StoreError."""
        lengths = [("LLEN", f"{queue}{end}") for queue in queues for end in PRIORITY_LISTS]
        commands = [("HLEN", UNACKED), ("ZRANGE", UNACKED_INDEX, 0, 0, "WITHSCORES"), ("GET", keys.TICK()), *lengths]
        unacked, oldest, tick, *waiting = await self._gate.batch(commands)
        width = len(PRIORITY_LISTS)
        active = await self._swarms.active() if only is None else [only]
        swarms, unreadable = [], {}
        for swarm_id in active[:MOST_SWARMS]:
            try:
                swarms.append(await self._swarm(swarm_id))
            except NotFoundError:  # it ended and expired meanwhile
                continue
            except SchemaError as error:
                unreadable[swarm_id] = str(error)
        return FleetLook(
            now=await self._gate.now(),
            server=await ask(self._gate),
            tick=tick_of(tick),
            waiting={queue: sum(waiting[n * width : (n + 1) * width]) for n, queue in enumerate(queues)},
            unacked=unacked,
            oldest_unacked_at=float(oldest[1]) if oldest else 0.0,
            swarms=swarms,
            unreadable=unreadable,
            left_out=max(0, len(active) - MOST_SWARMS),
        )

    async def _swarm(self, swarm_id: str) -> SwarmLook:
        record = await self._swarms.load(swarm_id)
        jobs, newest = await self._gate.batch(
            [("HGETALL", keys.JOBS(swarm_id)), ("XREVRANGE", keys.EVENTS(swarm_id), "+", "-", "COUNT", 1)]
        )
        return SwarmLook(
            record=record,
            stage=await self._stages.load(swarm_id, record.stage) if record.stage >= 0 else None,
            branches=await self._branches.load_all(swarm_id),
            jobs=_jobs(pairs(jobs)),
            last_event_at=int(newest[0][0].partition(b"-")[0]) / 1000 if newest else 0.0,
        )


def tick_of(raw: bytes | None) -> Tick | None:
    """What ``ticked`` has noted."""
    if raw is None:
        return None
    value: dict[str, Any] = orjson.loads(raw)
    return Tick(float(value["at"]), float(value["every"]))


def _jobs(fields: Mapping[str, bytes]) -> dict[str, JobLook]:
    names = {name.rpartition(":")[0] for name in fields}
    return {
        name: JobLook(fields.get(f"{name}:worker", b"").decode(), float(fields.get(f"{name}:until", 0)))
        for name in sorted(names)
        if f"{name}:claim" in fields and f"{name}:done" not in fields
    }
