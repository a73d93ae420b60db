"""Fakes around the agent loop: a clock that sleeping moves, a model with turns, tools and a journal in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from swarmq.agent.assignment import Assignment
from swarmq.agent.timing import Clock
from swarmq.models.branch import BranchSpec
from swarmq.models.events import Event
from swarmq.models.messages import (
    Completion,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    system,
    user,
)
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind
from swarmq.models.swarm import SwarmSpec
from swarmq.models.transcript import Entry
from swarmq.providers.limiter import NOBODY, Caller

BRANCH = BranchSpec(
    swarm_id="k3x9qm2p4t", id="parse", subtask_id="parse", stage=0, kind=Kind.EDIT, celery_task_id="k3x9qm2p4t.parse"
)
OPENING = (system("You are an agent."), user("Do it."))


class FakeTime:
    """Moves only when told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.seconds, unix=lambda: self.seconds, sleep=self._sleep, jitter=lambda: 1.0)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def call(name: str, call_id: str = "c1", **arguments: object) -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=orjson.dumps(arguments).decode())


def says(
    text: str = "", *calls: ToolCall, finish: FinishReason | None = None, usage: Usage | None = None
) -> Completion:
    """An answer; the finish reason is the one that fits, unless named."""
    texts: tuple[Part, ...] = (Text(text=text),) if text else ()
    fitting = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    return Completion(
        message=Message(role=Role.ASSISTANT, parts=(*texts, *calls)),
        finish=finish or fitting,
        raw_finish="",
        usage=usage or Usage(input_tokens=100, output_tokens=10),
    )


Turn = Completion | Exception | Callable[[], Awaitable[Completion]]


class FakeConversation:
    def __init__(self, model: FakeModel) -> None:
        self._model = model
        self.messages: list[Message] = []
        self.appended = 0
        self.replaced = 0
        self.closed = False
        self.timeouts: list[float] = []

    def append(self, message: Message) -> None:
        self.messages.append(message)
        self.appended += 1

    def replace(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)
        self.replaced += 1

    async def complete(
        self, *, max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        self.timeouts.append(timeout_seconds)
        return await self._model.answer(self)

    async def aclose(self) -> None:
        self.closed = True


class FakeModel:
    """Gives its turns one after another; a turn may be an error, or a coroutine function."""

    name = "fake:model"

    def __init__(self, *turns: Turn, context_window_tokens: int = 256_000) -> None:
        self.turns = list(turns)
        self.context_window_tokens = context_window_tokens
        self.conversations: list[FakeConversation] = []
        self.tools: Sequence[ToolSpec] = ()
        self.caller = NOBODY
        self.asked = 0

    def conversation(self, tools: Sequence[ToolSpec], caller: Caller = NOBODY) -> FakeConversation:
        self.tools, self.caller = tools, caller
        self.conversations.append(FakeConversation(self))
        return self.conversations[-1]

    async def answer(self, conversation: FakeConversation) -> Completion:
        turn = self.turns[self.asked]
        self.asked += 1
        if isinstance(turn, Exception):
            raise turn
        return turn if isinstance(turn, Completion) else await turn()


class StatelessModel(FakeModel):
    """Answers by the number of answers that it is shown, as a scripted server does."""

    async def answer(self, conversation: FakeConversation) -> Completion:
        self.asked += 1
        turn = self.turns[sum(message.role is Role.ASSISTANT for message in conversation.messages)]
        if not isinstance(turn, Completion):
            raise TypeError("a stateless model has plain answers only")
        return turn


Handler = Callable[[ToolCall], Awaitable[str]]


class FakeToolbox:
    """``read`` tools are read-only. What ran is in ``ran``, by call id."""

    def __init__(self, handlers: dict[str, Handler] | None = None, log: list[str] | None = None) -> None:
        self.handlers = handlers or {}
        self.ran: list[str] = []
        self.log = log if log is not None else []

    def specs(self) -> Sequence[ToolSpec]:
        return [
            ToolSpec(name="read", description="Reads.", parameters={}, read_only=True),
            ToolSpec(name="edit", description="Edits.", parameters={}),
        ]

    async def call(self, call: ToolCall) -> ToolResult:
        self.ran.append(call.id)
        self.log.append(f"tool {call.name}")
        handler = self.handlers.get(call.name)
        content = await handler(call) if handler is not None else f"{call.name} done"
        return ToolResult(call_id=call.id, name=call.name, content=content)


@dataclass(frozen=True)
class Verdict:
    limit: str | None = None
    cancel_reason: str | None = None
    hold: Literal["paused", "budget"] | None = None


@dataclass
class Write:
    entries: list[Entry]
    events: list[Event]
    steps: int
    tool_calls: int
    usage: Usage
    expected: Usage | None

    @property
    def reserves(self) -> bool:
        return self.expected is not None


class Crash(Exception):
    """The worker is gone: the write before it is stored, nothing after it happens."""


@dataclass
class FakeJournal:
    """Keeps the writes; ``verdicts`` are given to the writes of those numbers; dies after ``crash_after`` writes."""

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    crash_after: int | None = None
    writes: list[Write] = field(default_factory=list)
    doing: str = ""
    told: list[Event] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        return [entry for write in self.writes for entry in write.entries]

    @property
    def events(self) -> list[Event]:
        return [event for write in self.writes for event in write.events]

    async def record(
        self,
        entries: Sequence[Entry],
        events: Sequence[Event],
        *,
        steps: int,
        tool_calls: int,
        usage: Usage,
        expected: Usage | None,
    ) -> Verdict:
        if self.crash_after is not None and len(self.writes) >= self.crash_after:
            raise Crash
        self.log.append(f"record {', '.join(entry.message.role for entry in entries)}")
        self.writes.append(Write(list(entries), list(events), steps, tool_calls, usage, expected))
        return self.verdicts.get(len(self.writes), Verdict())

    async def tell(self, doing: str, *events: Event) -> None:
        self.doing = doing
        self.told += events


@dataclass
class FakeCheckpoint:
    log: list[str] = field(default_factory=list)
    taken: int = 0

    async def __call__(self) -> None:
        self.taken += 1
        self.log.append("checkpoint")


def assignment(entries: Sequence[Entry] = (), resume_note: Message | None = None, **options: Any) -> Assignment:
    return Assignment(BRANCH, SwarmOptions.parse(options), OPENING, tuple(entries), resume_note)


def swarm_spec(task: str = "Move to version 2", repo: str | None = "/repo", **options: Any) -> SwarmSpec:
    return SwarmSpec(id="k3x9qm2p4t", task=task, options=SwarmOptions.parse(options), repo=repo, created_at=1000.0)
