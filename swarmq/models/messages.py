"""The conversation of a branch: what is sent to a model, what comes back, what the tools answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from swarmq.models.base import Record


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Text(Record):
    type: Literal["text"] = "text"
    text: str


class Thinking(Record):
    """Reasoning of a model. ``opaque`` is the provider's own JSON, sent back verbatim to the dialect that wrote it."""

    type: Literal["thinking"] = "thinking"
    text: str
    dialect: str
    opaque: str


class ToolCall(Record):
    """``arguments`` is the JSON text as the model wrote it; it may be invalid."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: str


class ToolResult(Record):
    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str
    content: str
    is_error: bool = False


Part = Annotated[Text | Thinking | ToolCall | ToolResult, Field(discriminator="type")]


class Message(Record):
    """One entry of a transcript. A ``tool`` message holds the results of all calls of one step."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolResult))


MESSAGE = TypeAdapter(Message)


def system(text: str) -> Message:
    return Message(role=Role.SYSTEM, parts=(Text(text=text),))


def user(text: str) -> Message:
    return Message(role=Role.USER, parts=(Text(text=text),))


class FinishReason(StrEnum):
    """Why the model stopped, the same for all dialects."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    REFUSAL = "refusal"
    OTHER = "other"


class Usage(Record):
    """Tokens of one model call. ``input_tokens`` is the total, cache reads and writes included."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Input and output together, as budgets count them."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )


class Completion(Record):
    """A model's answer. ``raw_finish`` is the provider's own word for ``finish``."""

    message: Message
    finish: FinishReason
    raw_finish: str
    usage: Usage


class ToolSpec(Record):
    """What a model is told of a tool. ``parameters`` is a JSON schema; ``read_only`` tools of one step run together."""

    name: str
    description: str
    parameters: dict[str, object]
    read_only: bool = False
