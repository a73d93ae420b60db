"""The events of a running branch, as values: the journal stores them with the record they belong to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from swarmq.models.branch import BranchSpec
from swarmq.models.events import (
    INPUT_PREVIEW_CHARACTERS,
    MESSAGE_PREVIEW_CHARACTERS,
    OUTPUT_PREVIEW_CHARACTERS,
    Event,
    EventType,
    preview,
)
from swarmq.models.messages import Completion, Thinking, ToolCall, ToolResult
from swarmq.models.verify import VerifyReport

ANSWER_CHARACTERS = 20_000
"""The final answer in its event; the whole one is in the branch's outcome."""


def branch_event(branch: BranchSpec, type_: EventType, data: Mapping[str, object], at: float | None = None) -> Event:
    """An event of a branch; ``at`` is Unix seconds, by default now."""
    seconds = time.time() if at is None else at
    return Event(
        type=type_, at=seconds, swarm=branch.swarm_id, subtask=branch.subtask_id, branch=branch.id, data=dict(data)
    )


@dataclass(frozen=True)
class Narrator:
    """Makes events of one branch. ``now`` gives Unix seconds."""

    branch: BranchSpec
    now: Callable[[], float]

    def _event(self, type_: EventType, **values: object) -> Event:
        return branch_event(self.branch, type_, values, self.now())

    def step(self, step: int, completion: Completion, seconds: float) -> list[Event]:
        """A model call, with what it thought and said."""
        usage = completion.usage
        events = [
            self._event(
                EventType.BRANCH_STEP,
                step=step,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                seconds=round(seconds, 3),
            )
        ]
        thinking = "\n".join(part.text for part in completion.message.parts if isinstance(part, Thinking) and part.text)
        if thinking:
            events.append(self._event(EventType.BRANCH_THINKING, text=preview(thinking, MESSAGE_PREVIEW_CHARACTERS)))
        text = completion.message.text
        if text.strip():
            events.append(self._event(EventType.BRANCH_MESSAGE, text=preview(text, MESSAGE_PREVIEW_CHARACTERS)))
        return events

    def tool_call(self, call: ToolCall, result: ToolResult, seconds: float) -> Event:
        return self._event(
            EventType.BRANCH_TOOL_CALL,
            tool=call.name,
            input=preview(call.arguments, INPUT_PREVIEW_CHARACTERS),
            output=preview(result.content, OUTPUT_PREVIEW_CHARACTERS),
            ok=not result.is_error,
            seconds=round(seconds, 3),
        )

    def retry(self, error: Exception, attempt: int, wait_seconds: float) -> Event:
        return self._event(
            EventType.BRANCH_RETRY, error=str(error), attempt=attempt, wait_seconds=round(wait_seconds, 3)
        )

    def rate_limited(self, endpoint: str, reason: str) -> Event:
        return self._event(EventType.BRANCH_RATE_LIMITED, endpoint=endpoint, reason=reason)

    def verifying(self, commands: Sequence[str]) -> Event:
        return self._event(EventType.VERIFY_STARTED, commands=list(commands), commit=None)

    def verified(self, report: VerifyReport, number: int | None = None, rounds: int | None = None) -> Event:
        """``number``: the agent is sent back for the number-th time of at most ``rounds``."""
        type_, values = verified(report)
        if number is not None:
            values |= {"round": number, "rounds": rounds}
        return self._event(type_, **values)

    def output(self, text: str) -> Event:
        return self._event(EventType.BRANCH_OUTPUT, text=preview(text, ANSWER_CHARACTERS))

    def error(self, error: str) -> Event:
        return self._event(EventType.BRANCH_ERROR, error=error)


def verified(report: VerifyReport) -> tuple[EventType, dict[str, object]]:
    """The event that tells of a report, by type and data. The end of an output says more than its head."""
    values: dict[str, object] = {
        "command": preview(report.command, INPUT_PREVIEW_CHARACTERS),
        "seconds": report.seconds,
        "changed": list(report.changed),
        "commit": report.commit,
    }
    if report.passed:
        return EventType.VERIFY_PASSED, values
    values |= {
        "exit_code": report.exit_code,
        "ending": report.ending,
        "output": report.output[-OUTPUT_PREVIEW_CHARACTERS:],
    }
    return EventType.VERIFY_FAILED, values
