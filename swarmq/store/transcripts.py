"""Transcripts: append-only, one entry per message, written by the holder alone; a branch resumes from its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from swarmq.models.messages import Usage
from swarmq.models.transcript import Entry
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.connection import Gate

__all__ = ["Entry", "Hold", "Recorded", "Reservation", "Transcripts"]

_PAGE = 64
"""Entries that are fetched and parsed in one go: large ones must not hold up the other agents of the loop."""


Hold = Literal["paused", "budget"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the next model call is expected to use, in tokens and 1e-9 USD (0 where no price is known)."""

    tokens: int = 0
    nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """``limit``: the option that leaves no further step. ``cancel_reason``: the branch is to stop.

    ``hold``: nothing was reserved, since the swarm is paused or calls in flight may use up the budget: ask again.
    """

    limit: str | None
    cancel_reason: str | None
    hold: Hold | None = None


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
        nano_usd: int | None = 0,
        reserve: Reservation | None = None,
    ) -> Recorded:
        """Append at ``index``, tell, count and, where asked, take the swarm's next step: all of it, once, or LeaseLost.

        ``steps``, ``tool_calls``, ``usage`` and ``nano_usd`` (None: the price is not known) are what these entries
        add. A step stays reserved until entries with ``steps`` use it, also by a later holder.
        """
        wanted = ("", 0, 0) if reserve is None else (1, reserve.tokens, reserve.nano_usd)
        limit, reason, hold = await self._gate.script(
            "record",
            keys.transcript_keys(swarm_id, branch_id),
            (
                token,
                new_call_id(),
                index,
                *wanted,
                steps,
                tool_calls,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                nano_usd or 0,
                steps if nano_usd is None else 0,
                len(entries),
                *entries,
                *events,
            ),
        )
        return Recorded(limit.decode() or None, reason.decode() or None, cast(Hold, hold.decode()) or None)

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
