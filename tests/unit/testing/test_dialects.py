"""The scripted server is as strict as the providers, and answers in their own types."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.chat import ChatCompletion

from swarmq.testing.dialects import Asked, BadRequest, answer, error, read
from swarmq.testing.script import ScriptedCall, ScriptedUsage, Turn

ASKED = Asked("model", "system", "user", 0)
TURN = Turn(
    text="Done.",
    thinking="Hm.",
    tool_calls=(
        ScriptedCall(name="read", arguments={"file_path": "ä"}),
        ScriptedCall(name="bash", arguments='{"command": "ls"}'),
        ScriptedCall(name="bash", arguments='{"command'),
    ),
    usage=ScriptedUsage(input=100, output=7, cached=60),
)
CALLED = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}]}
USE = {"type": "tool_use", "id": "1", "input": {}}
USED = {"role": "assistant", "content": [USE]}
REDACTED = {"type": "redacted_thinking", "data": "x"}
USER = {"role": "user", "content": "u"}


def result(number: int) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": str(number), "content": "r"}


def used_result(number: int) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": str(number)}]}


def asked(dialect: Any, *messages: dict[str, Any], **fields: Any) -> Asked:
    payload = {"model": "m", "max_tokens": 5, "messages": list(messages), **fields}
    return read(dialect, payload, orjson.dumps(payload))


def test_openai_answers_are_chat_completions() -> None:
    body = answer("openai", TURN, ASKED, 400, map(str, itertools.count()))
    completion = ChatCompletion.model_validate_json(body, strict=True)
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.arguments for call in choice.message.tool_calls or () if call.type == "function"] == [
        '{"file_path":"ä"}',
        '{"command": "ls"}',
        '{"command',
    ]
    assert len({call.id for call in choice.message.tool_calls or ()}) == 3
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert (completion.usage.prompt_tokens, completion.usage.prompt_tokens_details.cached_tokens) == (100, 60)


def test_anthropic_answers_are_messages() -> None:
    body = answer("anthropic", TURN, ASKED, 400, map(str, itertools.count()))
    message = AnthropicMessage.model_validate_json(body, strict=True)
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use", "tool_use"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [
        {"file_path": "ä"},
        {"command": "ls"},
        {"invalid_json": '{"command'},
    ]
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (40, 60)


@pytest.mark.parametrize(
    ("finish", "openai", "anthropic"),
    [
        ("stop", "stop", "end_turn"),
        ("tool_calls", "tool_calls", "tool_use"),
        ("length", "length", "max_tokens"),
        ("refusal", "content_filter", "refusal"),
        ("pause_turn", "pause_turn", "pause_turn"),
    ],
)
def test_every_finish_reason_has_its_word(finish: str, openai: str, anthropic: str) -> None:
    turn, ids = Turn(text="x", finish=finish), map(str, itertools.count())
    assert orjson.loads(answer("openai", turn, ASKED, 1, ids))["choices"][0]["finish_reason"] == openai
    assert orjson.loads(answer("anthropic", turn, ASKED, 1, ids))["stop_reason"] == anthropic


def test_usage_that_is_left_out_is_estimated() -> None:
    usage = orjson.loads(answer("openai", Turn(text="x" * 40), ASKED, 400, map(str, itertools.count())))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (101, 11)


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (500, "api_error")])
def test_errors_have_the_usual_type(status: int, kind: str) -> None:
    assert orjson.loads(error("anthropic", status, "m")) == {"type": "error", "error": {"type": kind, "message": "m"}}
    assert orjson.loads(error("openai", status, "m"))["error"]["type"] == kind
    assert orjson.loads(error("openai", status, "m", "insufficient_quota"))["error"]["code"] == "insufficient_quota"


def test_what_a_script_needs_is_read() -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "s"}]}
    messages = (system, USER, CALLED, result(1), result(2), {"role": "user", "content": "later"})
    assert asked("openai", *messages) == Asked("m", "s", "u", 1)
    blocks = [{"type": "text", "text": "s"}, {"type": "text", "text": "t"}]
    assert asked("anthropic", USER, USED, used_result(1), system=blocks) == Asked("m", "s\nt", "u", 1)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "at least one message"),
        ([USER, CALLED, result(1)], r"without a response before it: \['2'\]"),
        ([USER, CALLED, result(1), USER], r"messages\[3\].*\['2'\]"),
        ([USER, result(1)], "has to answer a call"),
        ([USER, CALLED, result(1), result(1), result(2)], "has to answer a call"),
        ([{"role": "robot", "content": "x"}], "unknown role 'robot'"),
        ([{"content": "x"}], "KeyError: 'role'"),
        ([USER, {"role": "assistant", "tool_calls": ["x"]}], "TypeError"),
        (["x"], "TypeError"),
    ],
)
def test_openai_requests_that_the_provider_would_refuse(messages: list[Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        asked("openai", *messages)


@pytest.mark.parametrize(
    ("messages", "fields", "told"),
    [
        ([USER], {"max_tokens": None}, "max_tokens"),
        ([{"role": "assistant", "content": "x"}], {}, "not possible here"),
        ([USER, {"role": "system", "content": "x"}], {}, "not possible here"),
        ([USER, {"role": "assistant", "content": "x"}], {}, "must end with a user message"),
        ([USER, USED, USER], {}, r"tool_use \['1'\] got tool_result \[\]"),
        ([USER, used_result(1)], {}, r"tool_use \[\] got tool_result \['1'\]"),
        ([{"role": "user", "content": []}], {}, "last block"),
        (
            [USER, {"role": "assistant", "content": [REDACTED]}, USER],
            {},
            "last block",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": " "}]}], {}, "non-empty"),
        (
            [USER, {"role": "assistant", "content": [{**USE, "input": "x"}]}, used_result(1)],
            {},
            "object",
        ),
        (
            [
                USER,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "x", "signature": "forged"},
                        {"type": "text", "text": "x"},
                    ],
                },
                USER,
            ],
            {},
            "Invalid `signature`",
        ),
        ([USER], {"system": [{"type": "text", "text": "x", "cache_control": {}}] * 5}, "maximum of 4"),
        ([USER], {"stream": True}, "does not stream"),
    ],
)
def test_anthropic_requests_that_the_provider_would_refuse(
    messages: list[Any], fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadRequest, match=told):
        asked("anthropic", *messages, **fields)
