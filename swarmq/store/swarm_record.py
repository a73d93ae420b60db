"""A swarm's record, from what Redis holds of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import orjson

from swarmq.models.plan import Plan
from swarmq.models.swarm import SubtaskResult, SwarmRecord, SwarmResult, SwarmSpec, SwarmState
from swarmq.store.codec import check_version, load, reading


def swarm_record(
    swarm_id: str, fields: Mapping[str, bytes], results: Mapping[str, bytes], canvases: Iterable[bytes]
) -> SwarmRecord:
    """SchemaError where this version does not know what it finds."""
    what = f"swarm {swarm_id}"
    with reading(what):
        check_version(fields.get("v"), what)
        return _parsed(what, fields, results, canvases)


def _parsed(
    what: str, fields: Mapping[str, bytes], results: Mapping[str, bytes], canvases: Iterable[bytes]
) -> SwarmRecord:
    plan, result = fields.get("plan"), fields.get("result")
    cancel_reason, error = fields.get("cancel_reason"), fields.get("error")
    return SwarmRecord(
        spec=_spec(fields["spec"], what),
        state=SwarmState(fields["state"].decode()),
        plan=None if plan is None else _plan(plan, f"{what}, plan"),
        stage=int(fields["stage"]),
        cancel_reason=None if cancel_reason is None else cancel_reason.decode(),
        paused_at=float(fields.get("paused_at", 0)),
        pause_reason=fields["pause_reason"].decode() if "pause_reason" in fields else None,
        canvases=tuple(orjson.loads(canvas) for canvas in canvases),
        recorded_at=float(fields.get("recorded_at", 0)),
        started_at=float(fields.get("started_at", 0)),
        finished_at=float(fields.get("finished_at", 0)),
        results={id_: load(SubtaskResult, raw, f"{what}, result of {id_}") for id_, raw in results.items()},
        result=None if result is None else load(SwarmResult, result, f"{what}, result"),
        error=None if error is None else error.decode(),
        limit=fields["limit"].decode() if "limit" in fields else None,
    )


# Neither changes once it is written, both are frozen, and every branch of a swarm reads them.
@functools.lru_cache(maxsize=64)
def _spec(raw: bytes, what: str) -> SwarmSpec:
    return load(SwarmSpec, raw, what)


@functools.lru_cache(maxsize=64)
def _plan(raw: bytes, what: str) -> Plan:
    return load(Plan, raw, what)
