"""The journal of a branch: transcript, events and counters in one fenced write per record."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.models.branch import BranchSpec
from swarmq.models.events import Event
from swarmq.models.messages import Usage
from swarmq.models.transcript import Entry
from swarmq.store.events import encode
from swarmq.store.store import Store
from swarmq.store.transcripts import Recorded


class StoreJournal:
    """Writes for one holder; knows the position of the next entry, and what the heartbeat tells of the branch."""

    def __init__(self, store: Store, spec: BranchSpec, token: int, max_total_steps: int = 0) -> None:
        self._store, self._spec, self._token = store, spec, token
        self.max_total_steps = max_total_steps
        self._index = 0
        self.steps, self.tool_calls, self.usage, self.doing = 0, 0, Usage(), "starting"

    @property
    def tokens(self) -> int:
        return self.usage.input_tokens + self.usage.output_tokens

    def resume(self, entries: Sequence[Entry]) -> None:
        """Go on behind what earlier holders wrote."""
        self._index = len(entries)
        for entry in entries:
            if entry.usage is not None:
                self.steps += 1
                self.usage += entry.usage
            self.tool_calls += len(entry.message.tool_results)

    async def record(
        self,
        entries: Sequence[Entry],
        events: Sequence[Event],
        *,
        steps: int,
        tool_calls: int,
        usage: Usage,
        reserve_step: bool,
    ) -> Recorded:
        recorded = await self._store.transcripts.record(
            self._spec.swarm_id,
            self._spec.id,
            self._token,
            self._index,
            [entry.encode() for entry in entries],
            [encode(event) for event in events],
            steps=steps,
            tool_calls=tool_calls,
            usage=usage,
            reserve_step=reserve_step,
            max_total_steps=self.max_total_steps,
        )
        self._index += len(entries)
        self.steps += steps
        self.tool_calls += tool_calls
        if steps:
            self.usage += usage
        if entries:
            calls = entries[-1].message.tool_calls
            self.doing = ", ".join(call.name for call in calls[:3]) if calls else "model call"
        return recorded

    async def tell(self, doing: str, *events: Event) -> None:
        self.doing = doing
        if events:
            await self._store.events.emit(self._spec.swarm_id, *events)
