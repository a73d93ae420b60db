"""What a run of the agent loop is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.events import Event
from swarmq.models.messages import Message, Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.transcript import Entry

Fault = Literal["agent", "infrastructure"]


@dataclass(frozen=True)
class Assignment:
    """What one run of the loop works on.

    ``opening`` is the system and the user prompt as they are now. ``entries`` are those of earlier holders, from which
    the run resumes; ``adopted`` are those of an earlier swarm, which a run without entries records behind its prompts.
    ``resume_note`` is then told to the model (a new worktree has a new path).
    """

    branch: BranchSpec
    options: SwarmOptions
    opening: tuple[Message, ...]
    entries: tuple[Entry, ...] = ()
    resume_note: Message | None = None
    adopted: tuple[Entry, ...] = ()

    def beginning(self, at: float) -> list[Entry]:
        """What a run without entries records first. ``at`` is Unix seconds."""
        first = [*(Entry(step=0, at=at, message=message) for message in self.opening), *self.adopted]
        if self.resume_note is not None:
            first.append(Entry(step=first[-1].step, at=at, message=self.resume_note))
        return first


class Ended(Exception):
    """Leaves the loop from wherever its end was found; never leaves run_agent."""

    def __init__(
        self,
        exit_: Exit,
        error: str | None = None,
        *,
        limit: str | None = None,
        fault: Fault | None = None,
        model_status: int = 0,
    ) -> None:
        super().__init__(exit_, error)
        self.exit, self.error, self.limit, self.fault = exit_, error, limit, fault
        self.model_status = model_status


class Parked(Exception):
    """The swarm is paused, or the holder to leave: all that was done is recorded, and the branch goes on later."""


@dataclass(frozen=True)
class LoopResult:
    """How the run ended. ``events`` are those that no record took along; they belong to the branch's end."""

    exit: Exit
    text: str
    error: str | None
    fault: Fault | None
    limit: str | None
    steps: int
    tool_calls: int
    retries: int
    usage: Usage
    rate_limit_wait_seconds: float
    events: tuple[Event, ...]
    model_status: int = 0

    def outcome(self, *, cost_usd: float | None, duration_seconds: float, continued_from: str | None) -> Outcome:
        """What the branch ends with, as far as the loop can tell: nothing is committed yet."""
        return Outcome(
            exit=self.exit,
            text=self.text,
            error=self.error,
            fault=self.fault,
            limit=self.limit,
            continued_from=continued_from,
            model_status=self.model_status,
            steps=self.steps,
            tool_calls=self.tool_calls,
            retries=self.retries,
            usage=self.usage,
            cost_usd=cost_usd,
            duration_seconds=duration_seconds,
        )
