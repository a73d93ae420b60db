"""The journal of an agent that has a log and nothing else: what belongs into the branch's record becomes lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmq.agent.answers import Progress
from swarmq.agent.ports import MODEL_CALL
from swarmq.models.branch import Observation
from swarmq.models.events import Event
from swarmq.models.messages import Usage
from swarmq.models.transcript import Entry
from swarmq.models.verify import VerifyReport
from swarmq.pod.payload import Slice
from swarmq.pod.protocol import LogRecord, ProbeRecord, StepRecord
from swarmq.providers.prices import Price


@dataclass(frozen=True, slots=True)
class Granted:
    """What the journal answers: nobody can be asked from here, so the slice alone decides."""

    limit: str | None = None
    cancel_reason: str | None = None
    hold: Literal["paused", "budget"] | None = None


class LogJournal:
    """Writes for one run. ``slice_`` is what this run may use, the entries before it not counted."""

    def __init__(
        self, send: Callable[[LogRecord], None], slice_: Slice, price: Price | None, entries: Sequence[Entry]
    ) -> None:
        self._send, self._slice, self._price = send, slice_, price
        self._progress = Progress()
        self.verified: VerifyReport | None = None
        """The last report of verify, with which the work goes or does not."""
        for entry in entries:
            self._progress.saw(entry)
            self.verified = entry.verify or self.verified
        self.index, self.doing, self.checkpoint = len(entries), "starting", None
        self._steps, self._usage, self._nano_usd = 0, Usage(), 0
        self.read_only: frozenset[str] = frozenset()
        """Names of tools that change no files."""
        self.writing = False
        self._told: list[Event] = []

    checkpoint: str | None
    """The commit that holds the files of what is recorded next."""

    def observe(self) -> ProbeRecord:
        usage = self._progress.usage
        tokens = usage.input_tokens + usage.output_tokens
        return ProbeRecord(
            observation=Observation(
                at=time.time(),
                steps=self._progress.steps,
                tokens=tokens,
                doing=self.doing,
                editing=self.writing,
                verified=None if self.verified is None else self.verified.passed,
            )
        )

    async def record(
        self,
        entries: Sequence[Entry],
        events: Sequence[Event],
        *,
        steps: int,
        tool_calls: int,
        usage: Usage,
        expected: Usage | None,
    ) -> Granted:
        told, self._told = self._told, []
        record = StepRecord(
            index=self.index,
            entries=tuple(entries),
            events=(*told, *events),
            steps=steps,
            tool_calls=tool_calls,
            usage=usage,
            expected=expected,
            checkpoint=self.checkpoint,
        )
        self._send(record)
        self.index += len(entries)
        for entry in entries:
            self._progress.saw(entry)
        self._steps += steps
        if steps:
            self._usage += usage
            self._nano_usd += 0 if self._price is None else self._price.nano_usd(usage)
        calls = entries[-1].message.tool_calls if entries else ()
        self.writing = any(call.name not in self.read_only for call in calls)
        self.doing = ", ".join(call.name for call in calls[:3]) if calls else MODEL_CALL
        return Granted(None if expected is None else self._limit(expected))

    def _limit(self, expected: Usage) -> str | None:
        """The option that leaves no room in the slice for the next call."""
        slice_, used = self._slice, self._usage.input_tokens + self._usage.output_tokens
        if slice_.steps is not None and self._steps >= slice_.steps:
            return "max_total_steps"
        if slice_.tokens is not None and used + expected.input_tokens + expected.output_tokens > slice_.tokens:
            return "max_tokens"
        wanted_nano_usd = 0 if self._price is None else self._price.nano_usd(expected)
        if slice_.nano_usd is not None and self._nano_usd + wanted_nano_usd > slice_.nano_usd:
            return "max_cost_usd"
        return None

    async def tell(self, doing: str, *events: Event) -> None:
        """The events go with the next record: a line of their own could come twice."""
        self.doing = doing
        self._told += events

    def left_events(self) -> tuple[Event, ...]:
        """Those that no record took along."""
        told, self._told = tuple(self._told), []
        return told
