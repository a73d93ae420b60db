"""Both adapters' requests against the official SDKs' own types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from samples import TOOLS, compacted, conversation
from sdk_types import check_request

from swarmq.models.messages import Message
from swarmq.providers.anthropic import AnthropicDialect
from swarmq.providers.base import Dialect
from swarmq.providers.openai import OpenAIDialect

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAIDialect("gpt-5", "max_completion_tokens"),
    "anthropic": AnthropicDialect("claude-sonnet-5"),
}


def render(dialect: str, *replacements: Sequence[Message], tools: bool = True) -> bytes:
    """The body after the sample conversation, replaced by each of ``replacements`` in turn."""
    request = DIALECTS[dialect].request(TOOLS if tools else ())
    for message in conversation(dialect):
        request.append(message)
    for messages in replacements:
        request.replace(messages)
    return b"".join(request.render(8192, None))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_conversation_with_everything_is_valid(dialect: str) -> None:
    payload = check_request(dialect, render(dialect))
    assert len(payload["messages"]) == (10 if dialect == "openai" else 7)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_prefix_is_valid(dialect: str) -> None:
    request = DIALECTS[dialect].request(TOOLS)
    for message in conversation(dialect):
        request.append(message)
        check_request(dialect, b"".join(request.render(8192, None)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_compacted_conversation_is_valid_and_goes_on(dialect: str) -> None:
    request = DIALECTS[dialect].request(TOOLS)
    request.replace(conversation(dialect))
    request.replace(compacted(dialect))
    for message in conversation(dialect)[2:]:
        request.append(message)
    payload = check_request(dialect, b"".join(request.render(8192, None)))
    assert "2 messages were removed" in orjson.dumps(payload["messages"]).decode()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_replacing_equals_starting_anew(dialect: str) -> None:
    fresh = DIALECTS[dialect].request(TOOLS)
    for message in compacted(dialect):
        fresh.append(message)
    assert render(dialect, compacted(dialect)) == b"".join(fresh.render(8192, None))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_conversation_without_tools_is_valid(dialect: str) -> None:
    request = DIALECTS[dialect].request(())
    for message in conversation(dialect)[:2]:
        request.append(message)
    assert "tools" not in check_request(dialect, b"".join(request.render(100, None)))


@pytest.mark.parametrize(
    ("dialect", "break_it"),
    [
        ("openai", lambda body: body["messages"][2]["tool_calls"][0].pop("id")),
        ("openai", lambda body: body["messages"][3].update(surprise=1)),
        ("openai", lambda body: body["tools"][0]["function"].pop("name")),
        ("anthropic", lambda body: body["messages"][1]["content"][0].pop("signature")),
        ("anthropic", lambda body: body["messages"][2]["content"][0].update(surprise=1)),
        ("anthropic", lambda body: body.pop("max_tokens")),
    ],
)
def test_the_judge_sees_what_is_wrong(dialect: str, break_it: Any) -> None:
    payload = orjson.loads(render(dialect))
    break_it(payload)
    with pytest.raises((ValidationError, AssertionError)):
        check_request(dialect, orjson.dumps(payload))
