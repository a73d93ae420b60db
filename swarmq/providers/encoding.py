"""JSON that every server accepts, whatever a model or a tool put into it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from swarmq.models.messages import FinishReason, Part, ToolCall

_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME_CHARACTERS = 64
MOST_TOKENS = 10**9  # of one call, as far as a server is believed: sums must not overflow


def dump(value: Any) -> bytes:
    """Compact JSON; characters that are no text (lone surrogates, from files that are not UTF-8) become ``?``."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_printable(value))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def arguments_object(arguments: str) -> bytes:
    """Tool call arguments as a JSON object; what is none is wrapped as ``{"invalid_json": "..."}``.

    Anthropic takes nothing but objects. OpenAI itself takes any string, but vLLM and llama.cpp parse the history's
    arguments and refuse every further request of a conversation that holds a broken one.
    """
    try:
        if isinstance(orjson.loads(arguments), dict):
            return arguments.encode()
    except orjson.JSONDecodeError:
        pass
    return dump({"invalid_json": arguments})


def tool_name(name: str) -> str:
    """A name that servers accept in the history; models make up others, and are told so by the tool's answer."""
    return _NOT_A_NAME.sub("_", name)[:MAX_NAME_CHARACTERS] or "unknown"


def text_of(value: Any) -> str:
    """A string field that may be missing or null."""
    return value if isinstance(value, str) else ""


def count_of(container: Any, *keys: str) -> int:
    """A token count at a path of keys; 0 where any part of it is missing, null or no number."""
    for key in keys:
        container = container.get(key) if isinstance(container, dict) else None
    return min(container, MOST_TOKENS) if isinstance(container, int) and container > 0 else 0


def settle_finish(named: FinishReason, parts: Sequence[Part]) -> FinishReason:
    """Calls count more than the server's word for them: some say ``stop`` with calls, or nothing at all.

    A cut or refused answer stays one: its calls may be incomplete and are never run.
    """
    if named in (FinishReason.LENGTH, FinishReason.REFUSAL):
        return named
    if any(isinstance(part, ToolCall) for part in parts):
        return FinishReason.TOOL_CALLS
    return FinishReason.OTHER if named is FinishReason.TOOL_CALLS else named
