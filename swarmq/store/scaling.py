"""What the fleet has to do: the figures that autoscalers and dashboards go by.

All of it is read from the records, so that no crash, lost message or repeated command makes it drift; only what ended
swarms have used is added up, by the script that ends them, since their records expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarmq.models.swarm import SwarmState
from swarmq.store import keys
from swarmq.store.codec import pairs
from swarmq.store.connection import Gate
from swarmq.store.health import PRIORITY_LISTS, UNACKED, Tick, tick_of
from swarmq.store.line import Command
from swarmq.store.workers import Workers

AGENTS, PODS = "agents", "pods"
"""Queues of branches, by their short names."""
MOST_SWARMS = 1000
"""Unfinished swarms that are looked at; each costs four commands of one batch."""
JOBS_OF = {SwarmState.SUBMITTED: "plan", SwarmState.PLANNING: "plan", SwarmState.FINISHING: "finish"}
"""What agents workers do for a swarm besides its branches: its plan, and a last answer where it wants one."""


@dataclass(frozen=True)
class SwarmLoad:
    """An unfinished swarm. ``slots`` are its queued and running branches, of which there are at most max_subagents."""

    id: str
    state: SwarmState
    halted: bool
    """Paused, or marked as cancelled: what does not run yet will not run."""
    slots: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    waiting: int = 0
    """Branches for which there is no slot: more workers would not make them start."""
    counters: Mapping[str, float] = field(default_factory=dict)
    queue: str = AGENTS
    """Whose workers run its branches: ``agents``, or ``pods`` where each has a pod of its own."""


@dataclass(frozen=True)
class FleetLoad:
    """All at about the same moment. ``messages`` are those that wait on a queue, whatever their priority."""

    swarms: Sequence[SwarmLoad]
    ended: Mapping[str, float]
    """What ended swarms have used, and how many ended in which state (``swarms:STATE``)."""
    messages: Mapping[str, int]
    unacked: int
    workers: Sequence[Mapping[str, Any]]
    tick: Tick | None
    left_out: int = 0


def demand_of(swarms: Iterable[SwarmLoad], queue: str = AGENTS) -> frozenset[str]:
    """What workers of ``agents`` or ``pods`` have to do or are doing: a member for each. Pure.

    A branch that runs counts as much as one that waits for a worker: else busy workers would be scaled away. A swarm
    that is being planned or finished counts as one. What has no slot does not count, nor what a halted swarm does not
    run already.
    """
    members = set[str]()
    for swarm in swarms:
        if queue == AGENTS and not swarm.halted and swarm.state in JOBS_OF:
            members.add(f"{swarm.id}:{JOBS_OF[swarm.state]}")
        if swarm.queue == queue:
            members.update(f"{swarm.id}/{branch}" for branch in (swarm.running if swarm.halted else swarm.slots))
    return frozenset(members)


class Scaling:
    def __init__(self, gate: Gate) -> None:
        self._gate, self._workers = gate, Workers(gate)

    async def refresh(self) -> dict[str, int]:
        """Make the sets that KEDA counts (``swarmq:demand:QUEUE``) what the records say; returns their sizes.

        Whoever looks last wins: copies of this that cross differ by what happened in between, until the next one.
        """
        swarms, _ = await self._swarms()
        sizes = {}
        for queue in (AGENTS, PODS):
            members = sorted(demand_of(swarms, queue))
            await self._gate.script("demand", (keys.DEMAND(queue),), members)
            sizes[queue] = len(members)
        return sizes

    async def look(self, queues: Sequence[str]) -> FleetLoad:
        """Four round trips, however large the fleet. StoreError."""
        lengths: list[Command] = [("LLEN", f"{queue}{end}") for queue in queues for end in PRIORITY_LISTS]
        unacked, tick, *waiting = await self._gate.batch([("HLEN", UNACKED), ("GET", keys.TICK()), *lengths])
        width = len(PRIORITY_LISTS)
        ended, active = await self._gate.script("fleet_totals", (keys.TOTALS(), keys.ACTIVE()), ())
        used = {bytes(id_).decode(): _floats(flat) for id_, flat in active}
        swarms, left_out = await self._swarms(used)
        return FleetLoad(
            swarms=swarms,
            ended=_floats(ended),
            messages={queue: sum(waiting[n * width : (n + 1) * width]) for n, queue in enumerate(queues)},
            unacked=unacked,
            workers=await self._workers.list(),
            tick=tick_of(tick),
            left_out=left_out,
        )

    async def _swarms(self, counters: Mapping[str, Mapping[str, float]] | None = None) -> tuple[list[SwarmLoad], int]:
        everything = sorted(raw.decode() for raw in await self._gate.call("SMEMBERS", keys.ACTIVE()))
        ids = everything[:MOST_SWARMS]
        replies = await self._gate.batch([command for id_ in ids for command in _commands(id_)]) if ids else []
        found = []
        for n, id_ in enumerate(ids):
            (state, paused_at, cancel_reason, placement), slots, running, waiting = replies[4 * n : 4 * n + 4]
            known = _state(state)
            if known is None or known.final:
                continue
            found.append(
                SwarmLoad(
                    id=id_,
                    state=known,
                    halted=paused_at is not None or cancel_reason is not None,
                    slots=frozenset(raw.decode() for raw in slots),
                    running=frozenset(raw.decode() for raw in running),
                    waiting=waiting,
                    counters=(counters or {}).get(id_, {}),
                    queue=PODS if placement == b"pod" else AGENTS,
                )
            )
        return found, len(everything) - len(ids)


def _state(raw: bytes | None) -> SwarmState | None:
    """None where the swarm is gone, or is another version's: its demand is not ours to know."""
    try:
        return None if raw is None else SwarmState(raw.decode())
    except ValueError:
        return None


def _commands(swarm_id: str) -> tuple[Command, ...]:
    return (
        ("HMGET", keys.SWARM(swarm_id), "state", "paused_at", "cancel_reason", "placement"),
        ("SMEMBERS", keys.SLOTS(swarm_id)),
        ("SMEMBERS", keys.RUNNING(swarm_id)),
        ("LLEN", keys.WAITING(swarm_id)),
    )


def _floats(flat: Sequence[bytes]) -> dict[str, float]:
    return {name: float(value) for name, value in pairs(flat).items()}
