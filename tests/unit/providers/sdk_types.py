"""The official SDKs' own types as judges of what the adapters send, and of what the scripted server answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from anthropic.types import message_create_params as anthropic_params
from openai.types.chat import completion_create_params as openai_params
from pydantic import TypeAdapter

# The reasoning that OpenAI-compatible servers want back is no part of OpenAI's own types.
_EXTENSIONS = {"reasoning_content", "reasoning", "reasoning_details"}

OPENAI: TypeAdapter[Any] = TypeAdapter(openai_params.CompletionCreateParamsNonStreaming)
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(anthropic_params.MessageCreateParamsNonStreaming)


def check_request(dialect: str, body: bytes) -> dict[str, Any]:
    """Raises where the SDK's type does not accept the body or does not know a field of it; returns the body."""
    payload: dict[str, Any] = orjson.loads(body)
    plain = _without_extensions(payload) if dialect == "openai" else payload
    validated = consume((OPENAI if dialect == "openai" else ANTHROPIC).validate_python(plain))
    # What a type does not know is dropped by the validation, so a difference is an unknown field.
    assert validated == plain
    return payload


def consume(value: Any) -> Any:
    """Iterables validate their items only when they are read: read all of them, or everything passes."""
    if isinstance(value, dict):
        return {key: consume(item) for key, item in value.items()}
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return value
    return [consume(item) for item in value]


def _without_extensions(payload: dict[str, Any]) -> dict[str, Any]:
    messages = [
        {key: value for key, value in message.items() if key not in _EXTENSIONS} for message in payload["messages"]
    ]
    return {**payload, "messages": messages}
