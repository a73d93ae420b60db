"""The audit trail of a swarm: who decided what, append-only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from swarmq.models.base import SCHEMA_VERSION, Record
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import dump, load
from swarmq.store.connection import Gate


class AuditEntry(Record):
    """``actor`` is who decided (a user, finish_stage, collapse), ``action`` what, ``detail`` on what and why."""

    v: Literal[1] = SCHEMA_VERSION
    id: str = ""
    at: float
    actor: str
    action: str
    detail: dict[str, Any] = Field(default_factory=dict)


class Audit:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def append(self, swarm_id: str, actor: str, action: str, detail: Mapping[str, Any]) -> None:
        """NotFoundError where the swarm is gone."""
        entry = AuditEntry(at=time.time(), actor=actor, action=action, detail=dict(detail))
        names = (keys.SWARM(swarm_id), keys.AUDIT(swarm_id))
        await self._gate.script("append", names, (new_call_id(), 0, dump(entry)))

    async def read(self, swarm_id: str) -> list[AuditEntry]:
        """All entries, oldest first. SchemaError."""
        found = []
        for raw_id, (_, raw) in await self._gate.call("XRANGE", keys.AUDIT(swarm_id), "-", "+"):
            entry_id = raw_id.decode()
            found.append(load(AuditEntry, raw, f"audit entry {entry_id}").model_copy(update={"id": entry_id}))
        return found
