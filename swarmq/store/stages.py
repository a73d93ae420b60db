"""Stages: which branches they have, which of them have ended, and what merging them did."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from swarmq.models.branch import BranchSpec
from swarmq.models.events import Event, EventType
from swarmq.models.swarm import MergeReport
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import check_version, dump, load, pairs, reading
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.line import Command, Word

StageState = Literal["open", "advancing", "finished"]
_MERGE = "merge:"


@dataclass(frozen=True)
class StageRecord:
    """``advancing``: all its branches have ended, and somebody was told to finish it. Times by the clock of Redis."""

    stage: int
    state: StageState
    branch_ids: tuple[str, ...]
    done_ids: frozenset[str]
    opened_at: float
    finished_at: float = 0.0
    merges: dict[str, MergeReport] = field(default_factory=dict)
    eager: bool = False
    """What its branches leave is merged as they end."""

    @property
    def complete(self) -> bool:
        """Whether all its branches have ended."""
        return not set(self.branch_ids) - self.done_ids


class Stages:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def open(
        self,
        swarm_id: str,
        stage: int,
        branches: Sequence[BranchSpec],
        max_subagents: int,
        *,
        eager: bool = False,
    ) -> Sequence[str]:
        """Record the stage and its branches; returns those that are queued and to be published, in order.

        Branches that are recorded already stay as they are, so this also adds branches to an open stage. At most
        ``max_subagents`` are queued or running at once; the others wait, and come out of ``publish`` as slots get free.
        """
        ids = [spec.id for spec in branches]
        started = Event(
            type=EventType.STAGE_STARTED, at=time.time(), swarm=swarm_id, data={"stage": stage, "branches": ids}
        )
        flat: list[Word] = [
            word for spec in branches for word in (spec.id, spec.subtask_id, int(_is_one_of_many(spec)), dump(spec))
        ]
        arguments = (stage, max_subagents, int(eager), encode(started), *flat)
        queued = await self._gate.script("stage_open", (keys.SWARM(swarm_id),), arguments)
        return [raw.decode() for raw in queued]

    async def load(self, swarm_id: str, stage: int) -> StageRecord | None:
        """None for a stage that was not opened. SchemaError."""
        return _record(swarm_id, stage, *await self._gate.batch(_commands(swarm_id, stage)))

    async def load_all(self, swarm_id: str, last: int) -> list[StageRecord]:
        """Those that were opened, of the stages from 0 to ``last``. SchemaError."""
        numbers = range(last + 1)
        replies = await self._gate.batch([command for number in numbers for command in _commands(swarm_id, number)])
        found = [_record(swarm_id, number, *replies[3 * number : 3 * number + 3]) for number in numbers]
        return [stage for stage in found if stage is not None]

    async def record_merge(self, swarm_id: str, stage: int, branch_id: str, report: MergeReport) -> None:
        """Keep what merging did, so that a crash resumes behind it; the first report stays. NotFoundError."""
        await self._gate.script("stage_merge", (keys.SWARM(swarm_id),), (stage, branch_id, dump(report)))

    async def close(self, swarm_id: str, stage: int, succeeded: int, failed: int) -> bool:
        """True to the one call that closed it. NotFoundError."""
        arguments = (stage, new_call_id(), succeeded, failed)
        return bool(await self._gate.script("stage_close", (keys.SWARM(swarm_id),), arguments))


def _is_one_of_many(spec: BranchSpec) -> bool:
    """A candidate, or a resolver: its end alone says nothing of its subtask."""
    return spec.candidate > 0 or spec.resolves is not None


def _commands(swarm_id: str, stage: int) -> list[Command]:
    return [
        ("HGETALL", keys.STAGE(swarm_id, stage)),
        ("LRANGE", keys.STAGE_BRANCHES(swarm_id, stage), 0, -1),
        ("SMEMBERS", keys.STAGE_DONE(swarm_id, stage)),
    ]


def _record(swarm_id: str, stage: int, flat: Any, ids: Any, done: Any) -> StageRecord | None:
    if not flat:
        return None
    fields = pairs(flat)
    what = f"stage {stage} of swarm {swarm_id}"
    with reading(what):
        check_version(fields.get("v"), what)
        return _parsed(what, stage, fields, ids, done)


def _parsed(what: str, stage: int, fields: Mapping[str, bytes], ids: Any, done: Any) -> StageRecord:
    merges = {
        name.removeprefix(_MERGE): load(MergeReport, raw, f"{what}, {name}")
        for name, raw in fields.items()
        if name.startswith(_MERGE)
    }
    return StageRecord(
        stage=stage,
        state=cast(StageState, fields["state"].decode()),
        branch_ids=tuple(raw.decode() for raw in ids),
        done_ids=frozenset(raw.decode() for raw in done),
        opened_at=float(fields["opened_at"]),
        finished_at=float(fields.get("finished_at", 0)),
        merges=merges,
        eager=fields.get("eager") == b"1",
    )
