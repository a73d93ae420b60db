"""OpenAI's chat completions: OpenAI, vLLM, Ollama, OpenRouter, DeepSeek, Moonshot and others."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import orjson

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.models.messages import (
    Completion,
    FinishReason,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    Usage,
)
from swarmq.providers.encoding import arguments_object, count_of, dump, settle_finish, text_of, tool_name
from swarmq.providers.errors import answer_object, answered_error, malformed
from swarmq.providers.fragments import Fragments

DIALECT = "openai"

_FINISH = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSAL,
}
# Where endpoints put reasoning: DeepSeek, Moonshot and vLLM; OpenRouter and Groq; OpenRouter.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")


class OpenAIRequest:
    """The conversation as ``messages``. Reasoning goes back where tools are offered: DeepSeek and Moonshot refuse
    a turn with tool calls that has lost it, and without tools it only costs."""

    def __init__(self, dialect: OpenAIDialect, tools: Sequence[ToolSpec]) -> None:
        self._dialect = dialect
        self._has_tools = bool(tools)
        self._head = b'{"model":' + dump(dialect.model) + b',"messages":['
        self._tools = b',"tools":' + dump([_tool(tool) for tool in tools]) if tools else b""
        self._fragments = Fragments()

    def append(self, message: Message) -> None:
        for wire in _wire_messages(message, self._has_tools):
            self._fragments.append(dump(wire))
        self._fragments.fold(keep=0)

    def replace(self, messages: Sequence[Message]) -> None:
        self._fragments.clear()
        for message in messages:
            self.append(message)

    def render(self, max_output_tokens: int, temperature: float | None) -> list[bytes]:
        options: dict[str, Any] = {self._dialect.max_tokens_parameter: max_output_tokens}
        if temperature is not None:
            options["temperature"] = temperature
        if self._has_tools and self._dialect.reasoning_off:
            options["reasoning_effort"] = "none"
        tail = b"]" + self._tools + b"," + dump(options)[1:]
        return self._fragments.body(self._head, self._fragments.recent, tail)


class OpenAIDialect:
    """One model of an endpoint that speaks chat completions."""

    path = "/chat/completions"

    def __init__(self, model: str, max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"]) -> None:
        self.model = model
        self.max_tokens_parameter = max_tokens_parameter
        self.reasoning_off = False

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def request(self, tools: Sequence[ToolSpec]) -> OpenAIRequest:
        return OpenAIRequest(self, tools)

    def concede(self, refusal: PermanentModelError) -> bool:
        """GPT-5.6 and later take tools in chat completions only with reasoning switched off, and say so: learn it."""
        told = refusal.status == 400 and "reasoning_effort" in str(refusal) and "tools" in str(refusal)
        if not told or self.reasoning_off:
            return False
        self.reasoning_off = True
        return True

    def counted_tokens(self, usage: Usage) -> int:
        return usage.input_tokens + usage.output_tokens

    def completion(self, answer: bytes) -> Completion:
        payload = answer_object(answer)
        choices = payload.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise answered_error(payload) or malformed("no choices[0].message")
        raw_finish = text_of(choice.get("finish_reason"))
        if raw_finish == "error":
            raise answered_error(choice) or TransientModelError("the endpoint broke off its answer", 200)
        parts = tuple(_parts(message))
        named = FinishReason.REFUSAL if message.get("refusal") else _FINISH.get(raw_finish, FinishReason.OTHER)
        return Completion(
            message=Message(role=Role.ASSISTANT, parts=parts),
            finish=settle_finish(named, parts),
            raw_finish=raw_finish,
            usage=_usage(payload.get("usage")),
        )


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _wire_messages(message: Message, with_reasoning: bool) -> Iterator[dict[str, Any]]:
    """One wire message, except that every result of a ``tool`` message is one of its own."""
    if message.role is Role.TOOL:
        for result in message.tool_results:
            yield {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
    elif message.role is Role.ASSISTANT:
        yield _assistant(message, with_reasoning)
    else:
        yield {"role": message.role.value, "content": message.text}


def _assistant(message: Message, with_reasoning: bool) -> dict[str, Any]:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": tool_name(call.name), "arguments": arguments_object(call.arguments).decode()},
        }
        for call in message.tool_calls
    ]
    wire: dict[str, Any] = {"role": "assistant", "content": message.text or (None if calls else "")}
    if with_reasoning:
        for part in message.parts:
            if isinstance(part, Thinking) and part.dialect == DIALECT:
                wire |= orjson.loads(part.opaque)
    if calls:
        wire["tool_calls"] = calls
    return wire


def _parts(message: dict[str, Any]) -> Iterator[Part]:
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict) and call.get("function")]
    thinking = _thinking(message, on_tool_turn=bool(calls))
    if thinking:
        yield thinking
    text = _content(message.get("content")) or text_of(message.get("refusal"))
    if text.strip():
        yield Text(text=text)
    for call in calls:
        yield _tool_call(call)


def _thinking(message: dict[str, Any], on_tool_turn: bool) -> Thinking | None:
    """All reasoning fields as they came. An empty one counts on a tool turn: DeepSeek misses it otherwise."""
    fields = {name: message[name] for name in _REASONING_FIELDS if message.get(name) is not None}
    text = text_of(fields.get("reasoning_content")) or text_of(fields.get("reasoning"))
    if not fields or not (text or fields.get("reasoning_details") or on_tool_turn):
        return None
    return Thinking(text=text, dialect=DIALECT, opaque=dump(fields).decode())


def _content(content: Any) -> str:
    """Text, given as such or as a list of parts (Mistral)."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return text_of(content)


def _tool_call(call: dict[str, Any]) -> ToolCall:
    """Arguments stay as written. Some servers leave out the id, or give the arguments as an object."""
    function = call["function"] if isinstance(call["function"], dict) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, dict | list):
        arguments = dump(arguments).decode()
    return ToolCall(
        id=text_of(call.get("id")) or f"call_{secrets.token_hex(8)}",
        name=text_of(function.get("name")),
        arguments=text_of(arguments) if text_of(arguments).strip() else "{}",
    )


def _usage(usage: Any) -> Usage:
    """``prompt_tokens`` is the total already. DeepSeek and Moonshot name the cached part otherwise."""
    cached = (
        count_of(usage, "prompt_tokens_details", "cached_tokens")
        or count_of(usage, "prompt_cache_hit_tokens")
        or count_of(usage, "cached_tokens")
    )
    return Usage(
        input_tokens=count_of(usage, "prompt_tokens"),
        output_tokens=count_of(usage, "completion_tokens"),
        cached_tokens=cached,
    )
