"""What the loop needs from outside, as small protocols: its tools, its journal, and a place to checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from swarmq.models.events import Event
from swarmq.models.messages import ToolCall, ToolResult, ToolSpec, Usage
from swarmq.models.transcript import Entry
from swarmq.models.verify import VerifyReport

MODEL_CALL, RATE_LIMITED, RETRYING, VERIFYING = "model call", "rate limited", "waiting to retry", "verifying"
BETWEEN_CALLS = (RATE_LIMITED, RETRYING, VERIFYING)
"""What a branch does while no call of it is under way: it waits for a permit, or after a refusal or a failure, or its
work is verified. All of that can be stopped at any time and done again."""


class Toolbox(Protocol):
    """The tools that this branch really has."""

    def specs(self) -> Sequence[ToolSpec]: ...

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call. What the model did wrong comes back as an error result, never as an exception."""
        ...


class Recorded(Protocol):
    """What the journal says back: the option whose limit was reached, why the branch is to stop, or has to wait."""

    @property
    def limit(self) -> str | None: ...

    @property
    def cancel_reason(self) -> str | None: ...

    @property
    def hold(self) -> Literal["paused", "budget"] | None:
        """Why the step that was to be reserved was not: the swarm is paused, or calls in flight may use up the rest."""
        ...


class Journal(Protocol):
    """Where a branch's transcript and events go. Each record is one atomic, fenced write."""

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
        """Append. ``steps``, ``tool_calls`` and ``usage`` are what these entries add to the counters.

        ``expected`` is what the next step's call will use: it is taken from the swarm's budgets. None: none follows.
        Raises LeaseLost where another holder writes.
        """
        ...

    async def tell(self, doing: str, *events: Event) -> None:
        """What the branch does from now on, for its heartbeat, and events that cannot wait for the next record."""
        ...


class Checkpoint(Protocol):
    """Saves the worktree, so that another worker could go on from it."""

    async def __call__(self) -> object: ...


@dataclass
class Leaving:
    """Whether the branch is to be given back: the step under way ends, and nothing follows it.

    Asked for during a model call, its answer's tools run as well: the next holder could not tell that they have not.
    """

    asked: bool = False


class Verify(Protocol):
    """Runs the commands that decide whether the work is right. May be called again for the same work."""

    async def __call__(self) -> VerifyReport | None:
        """None where there is nothing to verify: the agent has changed no file."""
        ...
