"""Transcripts: append-only, one entry per message, written by the holder alone; a branch resumes from its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmq.models.messages import Usage
from swarmq.models.transcript import Entry
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate

__all__ = ["Entry", "Recorded", "Transcripts"]

_PAGE = 64
"""Entries that are fetched and parsed in one go: large ones must not hold up the other agents of the loop."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """``limit``: the option that leaves no further step. ``cancel_reason``: the branch is to stop."""

    limit: str | None
    cancel_reason: str | None


class Transcripts:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def record(
        self,
        swarm_id: str,
        branch_id: str,
        token: int,
        index: int,
        entries: Sequence[bytes],
        events: Sequence[bytes],
        *,
        steps: int,
        tool_calls: int,
        usage: Usage,
        reserve_step: bool,
        max_total_steps: int,
    ) -> Recorded:
        """Append at ``index``, tell, count and, where asked, take the swarm's next step: all of it, once, or LeaseLost.

        ``steps``, ``tool_calls`` and ``usage`` are what these entries add. A step stays reserved until entries with
        ``steps`` use it, also by a later holder.
        """
        limit, reason = await self._gate.script(
            "record",
            keys.transcript_keys(swarm_id, branch_id),
            (
                token,
                new_call_id(),
                index,
                max_total_steps if reserve_step else "",
                steps,
                tool_calls,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                len(entries),
                *entries,
                *events,
            ),
        )
        return Recorded(limit.decode() or None, reason.decode() or None)

    async def checkpoint(self, swarm_id: str, branch_id: str, token: int, commit: str) -> None:
        """Note the last checkpoint commit in the branch's record. LeaseLost."""
        await self._gate.script("checkpoint", (keys.SWARM(swarm_id),), (branch_id, token, commit))

    async def load(self, swarm_id: str, branch_id: str) -> list[Entry]:
        """The whole transcript; empty where there is none. SchemaError names the entry that cannot be read."""
        key, entries = keys.TRANSCRIPT(swarm_id, branch_id), list[Entry]()
        while True:
            start = len(entries)
            page = await self._gate.call("LRANGE", key, start, start + _PAGE - 1)
            entries += [Entry.decode(raw, start + offset) for offset, raw in enumerate(page)]
            if len(page) < _PAGE:
                return entries
