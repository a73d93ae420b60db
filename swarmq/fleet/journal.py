"""The journal of a branch: transcript, events and counters in one fenced write per record."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.agent.ports import MODEL_CALL
from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.events import Event
from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.models.transcript import Entry
from swarmq.models.verify import VerifyReport
from swarmq.providers.prices import Price
from swarmq.store.events import encode
from swarmq.store.store import Store
from swarmq.store.transcripts import Recorded, Reservation
from swarmq.workspace.blocking import run_blocking

FEW_ENTRIES = 100
"""More come only with a conversation that is taken over; thousands would hold the loop for a tenth of a second."""


class StoreJournal:
    """Writes for one holder; knows the position of the next entry, and what the heartbeat tells of the branch."""

    def __init__(self, store: Store, spec: BranchSpec, token: int, price: Price | None = None) -> None:
        self._store, self._spec, self._token, self.price = store, spec, token, price
        self._index, self._nano_usd = 0, 0
        self.steps, self.tool_calls, self.usage, self.doing = 0, 0, Usage(), "starting"
        self.calls: frozenset[str] = frozenset()  # the tools that run
        self.read_only: frozenset[str] = frozenset()  # the tools that cannot change files
        self.verified: VerifyReport | None = None

    @property
    def index(self) -> int:
        """The position of the next entry."""
        return self._index

    @property
    def tokens(self) -> int:
        return self.usage.input_tokens + self.usage.output_tokens

    @property
    def writing(self) -> bool:
        """Whether a tool that may change files is running."""
        return not self.calls <= self.read_only

    @property
    def cost_usd(self) -> float | None:
        """So far; None where the price of the model is not known."""
        return None if self.price is None else self._nano_usd / NANO_PER_USD

    def ended(self, exit_: Exit, error: str, *, duration_seconds: float, continued_from: str | None) -> Outcome:
        """The outcome of a branch that stops here, by what is recorded of it."""
        return Outcome(
            exit=exit_,
            error=error,
            continued_from=continued_from,
            steps=self.steps,
            tool_calls=self.tool_calls,
            usage=self.usage,
            cost_usd=self.cost_usd,
            duration_seconds=duration_seconds,
            verify=self.verified,
        )

    def resume(self, entries: Sequence[Entry]) -> None:
        """Go on behind what earlier holders wrote."""
        self._index = len(entries)
        for entry in entries:
            if entry.adopted_from is not None:
                continue
            self.verified = entry.verify or self.verified
            if entry.usage is not None:
                self.steps += 1
                self.usage += entry.usage
                self._nano_usd += self._cost(entry.usage) or 0
            self.tool_calls += len(entry.message.tool_results)

    async def record(
        self,
        entries: Sequence[Entry],
        events: Sequence[Event],
        *,
        steps: int,
        tool_calls: int,
        usage: Usage,
        expected: Usage | None,
    ) -> Recorded:
        nano_usd = self._cost(usage) if steps else 0
        recorded = await self._store.transcripts.record(
            self._spec.swarm_id,
            self._spec.id,
            self._token,
            self._index,
            _encoded(entries) if len(entries) <= FEW_ENTRIES else await run_blocking(_encoded, entries),
            [encode(event) for event in events],
            steps=steps,
            tool_calls=tool_calls,
            usage=usage,
            nano_usd=nano_usd,
            reserve=None if expected is None else reservation(expected, self.price),
        )
        self._index += len(entries)
        self.steps += steps
        self.tool_calls += tool_calls
        if steps:
            self.usage += usage
            self._nano_usd += nano_usd or 0
        self.calls = frozenset(call.name for call in entries[-1].message.tool_calls) if entries else frozenset()
        if recorded.hold is not None:
            self.doing = "paused" if recorded.hold == "paused" else "waiting for budget"
        elif not entries:
            self.doing = MODEL_CALL
        else:
            calls = entries[-1].message.tool_calls
            self.doing = ", ".join(call.name for call in calls[:3]) if calls else MODEL_CALL
        return recorded

    async def tell(self, doing: str, *events: Event) -> None:
        self.doing = doing
        if events:
            await self._store.events.emit(self._spec.swarm_id, *events)

    def _cost(self, usage: Usage) -> int | None:
        return None if self.price is None else self.price.nano_usd(usage)


def _encoded(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.encode() for entry in entries]


def reservation(expected: Usage, price: Price | None) -> Reservation:
    """What a call that is expected to use so much takes from the swarm's budgets."""
    return Reservation(expected.input_tokens + expected.output_tokens, 0 if price is None else price.nano_usd(expected))
