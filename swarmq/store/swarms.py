"""Swarms: the record of each, the indexes over all, and what every list shows of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from swarmq.errors import NotFoundError, SchemaError, UsageError
from swarmq.models.events import Event, EventType, preview
from swarmq.models.money import NANO_PER_USD
from swarmq.models.options import DEFAULT_MAX_COST_USD
from swarmq.models.plan import Plan
from swarmq.models.swarm import SubtaskResult, SwarmRecord, SwarmResult, SwarmSpec, SwarmState, SwarmStatus
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import check_version, dump, dump_value, pairs, reading
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.line import Command, Word
from swarmq.store.swarm_record import swarm_record

log = structlog.get_logger()
TASK_PREVIEW_CHARACTERS = 200
DAY_SECONDS = 86_400
_STATUS_FIELDS = (
    *("v", "state", "task", "stage", "stages", "created_at", "finished_at", "branch", "paused_at", "pause_reason"),
)
_STATUS_COUNTERS = ("steps", "input_tokens", "output_tokens", "cost_nano_usd", "unpriced_calls")
_PAGE = 100


class Swarms:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def create(self, spec: SwarmSpec, canvas: Mapping[str, Any] | None = None) -> str:
        """Record the swarm; returns its id, or that of the first one with the same id or idempotency key."""
        started = _event(spec.id, EventType.SWARM_STARTED, task=preview(spec.task, TASK_PREVIEW_CHARACTERS))
        options = spec.options
        fields: dict[str, Word] = {
            "spec": dump(spec),
            "task": preview(spec.task, TASK_PREVIEW_CHARACTERS),
            "created_at": spec.created_at,
            "keep_seconds": options.keep_days * DAY_SECONDS,
            "max_subagents": options.max_subagents,
            "max_deliveries": options.max_deliveries,
            "max_total_steps": options.max_total_steps,
            "max_tokens": options.max_tokens or "",
            "placement": options.placement,
            "max_nano_usd": round((options.max_cost_usd or DEFAULT_MAX_COST_USD) * NANO_PER_USD),
        }
        names = (keys.SWARM(spec.id), keys.ALL_SWARMS(), keys.ACTIVE(), keys.FLEET_EVENTS())
        flat = [word for pair in fields.items() for word in pair]
        canvas_id, canvas_json = ("", b"") if canvas is None else (canvas["task_id"], dump_value(canvas))
        arguments = (encode(started), spec.celery_task_id, options.idempotency_key or "", canvas_id, canvas_json, *flat)
        found = await self._gate.script("swarm_create", names, arguments)
        return bytes(found).decode()

    async def load(self, swarm_id: str) -> SwarmRecord:
        """Everything that is recorded of a swarm. NotFoundError, SchemaError."""
        swarm, results, canvases = await self._gate.batch(
            [
                ("HGETALL", keys.SWARM(swarm_id)),
                ("HGETALL", keys.RESULTS(swarm_id)),
                ("HVALS", keys.CANVASES(swarm_id)),
            ]
        )
        if not swarm:
            raise _unknown(swarm_id)
        return swarm_record(swarm_id, pairs(swarm), pairs(results), canvases)

    async def placement(self, swarm_id: str) -> str:
        """Where the swarm's branches run; ``fleet`` where there is no such swarm any more."""
        found = await self._gate.call("HGET", keys.SWARM(swarm_id), "placement")
        return "fleet" if found is None else bytes(found).decode()

    async def status(self, swarm_id: str) -> SwarmStatus:
        """A short view at the cost of one round trip, however large the swarm. NotFoundError, SchemaError."""
        status = _status(swarm_id, await self._gate.batch(_status_commands(swarm_id)))
        if status is None:
            raise _unknown(swarm_id)
        return status

    async def list(
        self, limit: int, states: Iterable[SwarmState] | None = None, *, all_readable: bool = False
    ) -> Sequence[SwarmStatus]:
        """Newest first, of those in ``states`` where given. Entries of expired swarms leave the index here.

        What another version has recorded is logged and left out; a SchemaError where ``all_readable`` forbids that.
        """
        wanted = None if states is None else set(states)
        found: list[SwarmStatus] = []
        start = 0
        while len(found) < limit:
            page = [raw.decode() for raw in await self._gate.call(*_newest(start, start + _PAGE - 1))]
            if not page:
                break
            replies = await self._gate.batch([command for id_ in page for command in _status_commands(id_)])
            gone = []
            for n, id_ in enumerate(page):
                try:
                    status = _status(id_, replies[3 * n : 3 * n + 3])
                except SchemaError as error:
                    if all_readable:
                        raise
                    log.warning("swarm left out of the list", swarm=id_, error=str(error))
                    continue
                if status is None:
                    gone.append(id_)
                elif wanted is None or status.state in wanted:
                    found.append(status)
            if gone:
                await self._gate.call("ZREM", keys.ALL_SWARMS(), *gone)
            start += len(page) - len(gone)
        return found[:limit]

    async def forget_expired(self) -> None:
        """Drop swarms whose records are gone from the indexes: those that no list comes to, and those that expired
        before their producers were told, which nobody can be told of any more."""
        for index, listed in (
            (("ZREM", keys.ALL_SWARMS()), _newest(0, -1)),
            (("SREM", keys.ACTIVE()), ("SMEMBERS", keys.ACTIVE())),
        ):
            ids = [raw.decode() for raw in await self._gate.call(*listed)]
            for start in range(0, len(ids), _PAGE):
                page = ids[start : start + _PAGE]
                there = await self._gate.batch([("EXISTS", keys.SWARM(id_)) for id_ in page])
                gone = [id_ for id_, exists in zip(page, there, strict=True) if not exists]
                if gone:
                    await self._gate.call(*index, *gone)

    async def resolve(self, prefix: str) -> str:
        """The id that begins so. NotFoundError for none, UsageError for several."""
        everything = [raw.decode() for raw in await self._gate.call(*_newest(0, -1))]
        ids = [prefix] if prefix in everything else [id_ for id_ in everything if prefix and id_.startswith(prefix)]
        there = await self._gate.batch([("EXISTS", keys.SWARM(id_)) for id_ in ids]) if ids else []
        found = [id_ for id_, exists in zip(ids, there, strict=True) if exists]
        if not found:
            raise _unknown(prefix)
        if len(found) > 1:
            raise UsageError(f"swarm {prefix!r} is not unique: {', '.join(found[:5])}")
        return found[0]

    async def by_task(self, celery_task_id: str) -> str | None:
        """The swarm that a producer's message belongs to."""
        found = await self._gate.call("GET", keys.TASK(celery_task_id))
        return None if found is None else bytes(found).decode()

    async def by_key(self, idempotency_key: str) -> str | None:
        """The swarm that a submission with that key joins."""
        found = await self._gate.call("GET", keys.IDEMPOTENCY(idempotency_key))
        return bytes(found).decode() if found and await self._gate.call("EXISTS", keys.SWARM(found.decode())) else None

    async def add_canvas(self, swarm_id: str, canvas: Mapping[str, Any]) -> None:
        """Keep what a producer's message (``canvas["task_id"]``) wants called after the swarm, unless it was told."""
        names = (keys.SWARM(swarm_id), keys.TASK(canvas["task_id"]), keys.ACTIVE())
        await self._gate.script("swarm_canvas", names, (canvas["task_id"], dump_value(canvas)))

    async def set_state(self, swarm_id: str, state: SwarmState, only_from: Iterable[SwarmState] | None = None) -> bool:
        """True where the swarm is in that state now. Final states come from ``finish`` alone, and are never left."""
        if state.final:
            raise ValueError(f"{state} is final: finish() writes it")
        return bool(await self._own("swarm_state", swarm_id, state, *(only_from or ())))

    async def set_plan(self, swarm_id: str, plan: Plan, note: str | None = None) -> bool:
        """True where the plan is this one; the first plan stays."""
        subtasks = [
            {"id": subtask.id, "name": subtask.name, "stage": number, "kind": subtask.kind, "dependencies": needs}
            for number, stage in enumerate(plan.stages)
            for subtask in stage
            for needs in [list(subtask.dependencies)]
        ]
        planned = _event(swarm_id, EventType.SWARM_PLANNED, subtasks=subtasks, note=note)
        ids = [subtask.id for subtask in plan.subtasks]
        return bool(await self._own("swarm_plan", swarm_id, dump(plan), len(plan.stages), encode(planned), *ids))

    async def set_error(self, swarm_id: str, error: str, limit: str | None = None) -> None:
        """Why the swarm cannot go on, and the option whose limit it is. The first error stays."""
        if limit is not None:
            await self._own("swarm_mark", swarm_id, "limit", limit)
        await self._own("swarm_mark", swarm_id, "error", error)

    async def request_cancel(self, swarm_id: str, reason: str) -> bool:
        """Mark the swarm: no branch of it can be claimed any more, and it ends as cancelled. The first reason stays.

        False where it had ended.
        """
        return bool(await self._own("swarm_mark", swarm_id, "cancel_reason", reason))

    async def cancel_reason(self, swarm_id: str) -> str | None:
        """Why the swarm is to end as cancelled; None where it is not, or is gone."""
        raw = await self._gate.call("HGET", keys.SWARM(swarm_id), "cancel_reason")
        return None if raw is None else raw.decode()

    async def put_results(self, swarm_id: str, results: Mapping[str, SubtaskResult]) -> None:
        """Write what became of subtasks; an ended swarm's results stay as they are."""
        flat = [word for id_, result in results.items() for word in (id_, result.status, dump(result))]
        if flat:
            await self._own("swarm_results", swarm_id, *flat)

    async def finish(self, swarm_id: str, result: SwarmResult) -> bool:
        """End the swarm: True where its result is this one; the first stays. All its keys then live for keep_days.

        False as well, and the swarm goes on, where it was marked cancelled and the result does not say so.
        """
        data = {"state": result.state, "branch": result.branch, "commit": result.commit, "error": result.error}
        finished = encode(_event(swarm_id, EventType.SWARM_FINISHED, **data))
        names = (keys.SWARM(swarm_id), keys.ACTIVE(), keys.FLEET_EVENTS(), keys.TOTALS())
        arguments = (result.state, dump(result), result.branch or "", finished, *_sweep())
        return bool(await self._gate.script("swarm_finish", names, arguments))

    async def told(self, swarm_id: str, celery_task_id: str) -> None:
        """A producer of an ended swarm has been sent its value: it is no more among the record's ``canvases``."""
        await self._gate.script("swarm_told", (keys.SWARM(swarm_id), keys.ACTIVE()), (celery_task_id,))

    async def delete(self, swarm_id: str) -> None:
        """Remove all that is recorded of a swarm. Its workers, where there are any, lose their leases."""
        names = (keys.SWARM(swarm_id), keys.ACTIVE(), keys.ALL_SWARMS(), keys.TOTALS())
        await self._gate.script("swarm_delete", names, _sweep())

    async def active(self) -> Sequence[str]:
        """Ids of the swarms that have not ended, or whose producers are still to be told."""
        return sorted(raw.decode() for raw in await self._gate.call("SMEMBERS", keys.ACTIVE()))

    async def counters(self, swarm_id: str) -> dict[str, float]:
        """Figures so far: steps, tool_calls, tokens, retries and what else ``add`` was given."""
        flat = await self._gate.call("HGETALL", keys.COUNTERS(swarm_id))
        return {name: float(value) for name, value in pairs(flat).items()}

    async def add(self, swarm_id: str, **deltas: float) -> None:
        """Add to the counters, once, however often the command has to be sent."""
        flat = [word for name, delta in deltas.items() if delta for word in (name, delta)]
        if flat:
            await self._own("counters_add", swarm_id, new_call_id(), *flat)

    async def _own(self, script: str, swarm_id: str, *arguments: Word) -> Any:
        return await self._gate.script(script, (keys.SWARM(swarm_id),), arguments)


def _event(swarm_id: str, type_: EventType, **data: Any) -> Event:
    return Event(type=type_, at=time.time(), swarm=swarm_id, data=data)


def _unknown(swarm_id: str) -> NotFoundError:
    return NotFoundError(f"there is no swarm {swarm_id}; 'swarmq ls' shows those that there are")


def _sweep() -> list[Word]:
    groups = keys.names_to_expire()
    return [*map(len, groups), *(name for group in groups for name in group)]


def _newest(start: int, stop: int) -> Command:
    return ("ZREVRANGE", keys.ALL_SWARMS(), start, stop)


def _status_commands(swarm_id: str) -> list[Command]:
    return [
        ("HMGET", keys.SWARM(swarm_id), *_STATUS_FIELDS),
        ("HVALS", keys.SUBTASKS(swarm_id)),
        ("HMGET", keys.COUNTERS(swarm_id), *_STATUS_COUNTERS),
    ]


def _status(swarm_id: str, replies: Sequence[Any]) -> SwarmStatus | None:
    fields = dict(zip(_STATUS_FIELDS, replies[0], strict=True))
    if fields["state"] is None:
        return None
    with reading(f"swarm {swarm_id}"):
        check_version(fields["v"], f"swarm {swarm_id}")
        return _parsed(swarm_id, fields, replies)


def _parsed(swarm_id: str, fields: Mapping[str, Any], replies: Sequence[Any]) -> SwarmStatus:
    steps, input_tokens, output_tokens, nano_usd, unpriced = (int(raw or 0) for raw in replies[2])
    return SwarmStatus(
        id=swarm_id,
        state=SwarmState(fields["state"].decode()),
        task=fields["task"].decode(),
        stage=int(fields["stage"]),
        stages=int(fields["stages"] or 0),
        subtasks=dict(Counter(raw.decode() for raw in replies[1])),
        steps=steps,
        tokens=input_tokens + output_tokens,
        cost_usd=None if unpriced else nano_usd / NANO_PER_USD,
        paused=fields["paused_at"] is not None,
        pause_reason=fields["pause_reason"].decode() if fields["pause_reason"] else None,
        created_at=float(fields["created_at"]),
        finished_at=float(fields["finished_at"] or 0),
        branch=fields["branch"].decode() if fields["branch"] else None,
    )
