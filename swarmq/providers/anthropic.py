"""Anthropic's messages API, version 2023-06-01: the one that compatible servers speak too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from swarmq.errors import PermanentModelError
from swarmq.models.messages import (
    Completion,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from swarmq.providers.encoding import arguments_object, count_of, dump, settle_finish, text_of, tool_name
from swarmq.providers.errors import answer_object, answered_error, malformed
from swarmq.providers.fragments import Fragments

DIALECT = "anthropic"
VERSION = "2023-06-01"  # the next one, 2026-10-21, takes no temperature; an endpoint's headers may ask for it

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}
_CACHE_CONTROL = {"type": "ephemeral"}
_MARK = b',"cache_control":' + dump(_CACHE_CONTROL)
_END_OF_MESSAGE = b"}]}"
# A server looks back 20 blocks from a mark for what it has cached; a step with many parallel calls is longer.
# So the message that carried the last mark of the previous request keeps one.
MARKED_USER_MESSAGES = 2


class AnthropicRequest:
    """The conversation as ``messages`` with up to four cache marks: system, tools, the last two user messages."""

    def __init__(self, model: str, tools: Sequence[ToolSpec]) -> None:
        self._model = b'{"model":' + dump(model)
        self._tools = b',"tools":' + dump(_tools(tools)) if tools else b""
        self._fragments = Fragments()
        self._marked: list[int] = []  # where, in the recent fragments, the last user and tool messages are
        self._system: list[str] = []
        self._system_fragment = b""

    def append(self, message: Message) -> None:
        if message.role is Role.SYSTEM:
            self._system.extend(part.text for part in message.parts if isinstance(part, Text) and part.text.strip())
            self._system_fragment = _system(self._system)
            return
        if message.role is not Role.ASSISTANT:
            self._marked = [*self._marked, len(self._fragments.recent)][-MARKED_USER_MESSAGES:]
        self._fragments.append(_wire_message(message))
        first = self._marked[0] if self._marked else 0
        folded = self._fragments.fold(keep=len(self._fragments.recent) - first)
        self._marked = [index - folded for index in self._marked]

    def replace(self, messages: Sequence[Message]) -> None:
        self._fragments.clear()
        self._marked.clear()
        self._system.clear()
        self._system_fragment = b""
        for message in messages:
            self.append(message)

    def render(self, max_output_tokens: int, temperature: float | None) -> list[bytes]:
        options: dict[str, Any] = {"max_tokens": max_output_tokens}
        if temperature is not None:
            options["temperature"] = temperature
        recent = self._fragments.recent.copy()
        for index in self._marked:
            recent[index] = recent[index].removesuffix(_END_OF_MESSAGE) + _MARK + _END_OF_MESSAGE
        head = self._model + b"," + dump(options)[1:-1] + self._tools + self._system_fragment + b',"messages":['
        return self._fragments.body(head, recent, b"]}")


class AnthropicDialect:
    """One model of an endpoint that speaks the messages API."""

    path = "/v1/messages"

    def __init__(self, model: str) -> None:
        self.model = model

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        return {"anthropic-version": VERSION, **({"x-api-key": api_key} if api_key else {})}

    def request(self, tools: Sequence[ToolSpec]) -> AnthropicRequest:
        return AnthropicRequest(self.model, tools)

    def concede(self, refusal: PermanentModelError) -> bool:
        return False

    def counted_tokens(self, usage: Usage) -> int:
        return usage.input_tokens - usage.cached_tokens + usage.output_tokens  # what it reads from its cache is free

    def completion(self, answer: bytes) -> Completion:
        payload = answer_object(answer)
        content = payload.get("content")
        if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
            raise answered_error(payload) or malformed("no content blocks")
        raw_finish = text_of(payload.get("stop_reason"))
        parts = tuple(_parts(content))
        return Completion(
            message=Message(role=Role.ASSISTANT, parts=parts),
            finish=settle_finish(_FINISH.get(raw_finish, FinishReason.OTHER), parts),
            raw_finish=raw_finish,
            usage=_usage(payload.get("usage")),
        )


def _tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in tools
    ]
    wire[-1]["cache_control"] = _CACHE_CONTROL
    return wire


def _system(texts: Sequence[str]) -> bytes:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
    if not blocks:
        return b""
    blocks[-1]["cache_control"] = _CACHE_CONTROL
    return b',"system":' + dump(blocks)


def _wire_message(message: Message) -> bytes:
    """Always a list of blocks, so that a cache mark can go into the last one.

    A message without blocks is refused, and so is one that ends in thinking (cut by length): a dash stands in.
    """
    blocks = list(_blocks(message))
    if not blocks or isinstance(blocks[-1], orjson.Fragment):
        blocks.append({"type": "text", "text": "-"})
    return dump({"role": "assistant" if message.role is Role.ASSISTANT else "user", "content": blocks})


def _blocks(message: Message) -> Iterator[Any]:
    """Blocks in the order of the parts: thinking has to stand where it stood. Blank texts are refused, so left out."""
    for part in message.parts:
        if isinstance(part, Text) and part.text.strip():
            yield {"type": "text", "text": part.text}
        elif isinstance(part, Thinking) and part.dialect == DIALECT:
            yield orjson.Fragment(part.opaque)
        elif isinstance(part, ToolCall):
            arguments = orjson.Fragment(arguments_object(part.arguments))
            yield {"type": "tool_use", "id": part.id, "name": tool_name(part.name), "input": arguments}
        elif isinstance(part, ToolResult):
            result = {"type": "tool_result", "tool_use_id": part.call_id, "content": part.content}
            yield {**result, "is_error": True} if part.is_error else result


def _parts(content: Sequence[dict[str, Any]]) -> Iterator[Part]:
    """Blocks of an unknown type are kept like thinking: they go back verbatim, in their place."""
    for block in content:
        kind = block.get("type")
        if kind == "text":
            if text_of(block.get("text")).strip():
                yield Text(text=block["text"])
        elif kind == "tool_use":
            arguments = dump(block.get("input") or {}).decode()
            yield ToolCall(id=text_of(block.get("id")), name=text_of(block.get("name")), arguments=arguments)
        else:
            yield Thinking(text=text_of(block.get("thinking")), dialect=DIALECT, opaque=dump(block).decode())


def _usage(usage: Any) -> Usage:
    """``input_tokens`` leaves out what was read from or written to the cache; ours is the total."""
    cached = count_of(usage, "cache_read_input_tokens")
    written = count_of(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count_of(usage, "input_tokens") + cached + written,
        output_tokens=count_of(usage, "output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
    )
