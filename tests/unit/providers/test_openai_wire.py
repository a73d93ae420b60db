from __future__ import annotations

from typing import Any

import orjson
import pytest
from samples import REASONING, TOOLS, assistant, conversation, opaque, tool

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.models.messages import (
    Completion,
    FinishReason,
    Message,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    user,
)
from swarmq.providers.openai import OpenAIDialect


def dialect() -> OpenAIDialect:
    return OpenAIDialect("gpt-5", "max_completion_tokens")


def body(*messages: Message, tools: bool = True, temperature: float | None = None) -> dict[str, Any]:
    request = dialect().request(TOOLS if tools else ())
    for message in messages:
        request.append(message)
    payload: dict[str, Any] = orjson.loads(b"".join(request.render(100, temperature)))
    return payload


def answer(message: dict[str, Any], finish: str | None = "stop", usage: Any = None) -> Completion:
    payload = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
    return dialect().completion(orjson.dumps(payload))


def call(arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": arguments}, **fields}


def test_one_tool_message_becomes_one_wire_message_per_result() -> None:
    messages = body(*conversation("openai")[:4])["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert messages[3] == {"role": "tool", "tool_call_id": "call_1", "content": "1\tprint('ä')"}
    assert messages[4]["tool_call_id"] == "call_2"


def test_temperature_is_sent_only_where_set() -> None:
    assert "temperature" not in body(user("x"))
    assert body(user("x"), temperature=0.0)["temperature"] == 0.0


def test_the_limit_goes_under_the_endpoints_name_for_it() -> None:
    assert body(user("x"))["max_completion_tokens"] == 100
    request = OpenAIDialect("local", "max_tokens").request(())
    request.append(user("x"))
    assert orjson.loads(b"".join(request.render(7, None)))["max_tokens"] == 7


def test_valid_arguments_go_back_byte_for_byte() -> None:
    written = '{ "b":1,   "a": 1e2 }'
    wire = body(assistant(ToolCall(id="1", name="read", arguments=written)))["messages"][0]
    assert wire["tool_calls"][0]["function"]["arguments"] == written


@pytest.mark.parametrize("broken", ['{"command": "ls', "[1]", '"x"', "", "null"])
def test_arguments_that_are_no_object_go_back_as_one_that_names_them(broken: str) -> None:
    # vLLM and llama.cpp parse the arguments of the history and refuse the whole conversation otherwise.
    wire = body(assistant(ToolCall(id="1", name="read", arguments=broken)))["messages"][0]
    assert orjson.loads(wire["tool_calls"][0]["function"]["arguments"]) == {"invalid_json": broken}


def test_an_invented_tool_name_goes_back_in_allowed_characters() -> None:
    wire = body(assistant(ToolCall(id="1", name="functions.read file", arguments="{}")))["messages"][0]
    assert wire["tool_calls"][0]["function"]["name"] == "functions_read_file"


def test_reasoning_goes_back_where_tools_are_offered_only() -> None:
    message = assistant(Thinking(text="t", dialect="openai", opaque=opaque(REASONING)), Text(text="x"))
    assert body(message)["messages"][0]["reasoning_content"] == "Two files, at once."
    assert "reasoning_content" not in body(message, tools=False)["messages"][0]


def test_another_dialects_thinking_is_left_out() -> None:
    foreign = assistant(Thinking(text="t", dialect="anthropic", opaque='{"type":"thinking"}'), Text(text="x"))
    assert body(foreign)["messages"][0] == {"role": "assistant", "content": "x"}


def test_text_that_is_not_unicode_is_sent_with_question_marks() -> None:
    result = ToolResult(call_id="1", name="read", content="caf\udce9")
    messages = body(assistant(ToolCall(id="1", name="read", arguments="{}")), tool(result))["messages"]
    assert messages[1]["content"] == "caf?"


def test_completion_with_reasoning_text_and_parallel_calls() -> None:
    message = {
        "content": "I read.",
        "reasoning_content": "hm",
        "tool_calls": [call('{"file_path": "a"}'), call("{}", id="call_2")],
    }
    completion = answer(message, "tool_calls")
    assert completion.finish is FinishReason.TOOL_CALLS
    assert completion.raw_finish == "tool_calls"
    assert completion.message == Message(
        role=Role.ASSISTANT,
        parts=(
            Thinking(text="hm", dialect="openai", opaque='{"reasoning_content":"hm"}'),
            Text(text="I read."),
            ToolCall(id="call_1", name="read", arguments='{"file_path": "a"}'),
            ToolCall(id="call_2", name="read", arguments="{}"),
        ),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": ""},
        {"reasoning": "r", "reasoning_details": [{"type": "reasoning.encrypted", "data": "Zm9v"}]},
    ],
)
def test_reasoning_of_a_tool_turn_comes_back_as_it_came_even_when_empty(fields: dict[str, Any]) -> None:
    completion = answer({"content": None, "tool_calls": [call()], **fields}, "tool_calls")
    wire = body(completion.message)["messages"][0]
    assert {name: wire[name] for name in fields} == fields


def test_missing_reasoning_adds_nothing() -> None:
    completion = answer({"content": "x", "reasoning_content": None, "reasoning": ""})
    assert completion.message.parts == (Text(text="x"),)


@pytest.mark.parametrize(
    ("raw", "calls", "finish"),
    [
        ("stop", False, FinishReason.STOP),
        ("stop", True, FinishReason.TOOL_CALLS),
        (None, True, FinishReason.TOOL_CALLS),
        ("eos", True, FinishReason.TOOL_CALLS),
        ("tool_calls", True, FinishReason.TOOL_CALLS),
        ("function_call", True, FinishReason.TOOL_CALLS),
        ("tool_calls", False, FinishReason.OTHER),
        ("length", False, FinishReason.LENGTH),
        ("length", True, FinishReason.LENGTH),
        ("content_filter", False, FinishReason.REFUSAL),
        ("content_filter", True, FinishReason.REFUSAL),
        ("something", False, FinishReason.OTHER),
        (None, False, FinishReason.OTHER),
    ],
)
def test_finish_reasons(raw: str | None, calls: bool, finish: FinishReason) -> None:
    completion = answer({"content": "x", "tool_calls": [call('{"cut')] if calls else None}, raw)
    assert (completion.finish, completion.raw_finish) == (finish, raw or "")
    assert len(completion.message.tool_calls) == calls


def test_a_refusal_is_its_text() -> None:
    completion = answer({"content": None, "refusal": "I will not."})
    assert (completion.finish, completion.message.text) == (FinishReason.REFUSAL, "I will not.")


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_an_empty_answer_has_no_parts(content: str | None) -> None:
    completion = answer({"content": content})
    assert (completion.finish, completion.message.parts) == (FinishReason.STOP, ())
    assert body(completion.message)["messages"][0] == {"role": "assistant", "content": ""}


def test_content_in_parts_is_joined() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []}, {"type": "text", "text": "b"}]
    assert answer({"content": content}).message.text == "ab"


@pytest.mark.parametrize(
    ("arguments", "read"), [({"a": 1}, '{"a":1}'), ("", "{}"), (" ", "{}"), (None, "{}"), ('{"a', '{"a')]
)
def test_arguments_of_odd_servers(arguments: Any, read: str) -> None:
    assert answer({"content": None, "tool_calls": [call(arguments)]}).message.tool_calls[0].arguments == read


def test_calls_without_an_id_get_one_each() -> None:
    calls = answer({"content": None, "tool_calls": [call(id=""), call(id=None)]}).message.tool_calls
    assert calls[0].id.startswith("call_")
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}},
            Usage(input_tokens=100, output_tokens=7, cached_tokens=64),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 7, "prompt_cache_hit_tokens": 60},
            Usage(input_tokens=100, output_tokens=7, cached_tokens=60),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 7, "cached_tokens": 50, "prompt_tokens_details": None},
            Usage(input_tokens=100, output_tokens=7, cached_tokens=50),
        ),
        ({"prompt_tokens": None, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": 2**63 - 1, "completion_tokens": 1}, Usage(input_tokens=10**9, output_tokens=1)),
        ("none", Usage()),
        (None, Usage()),
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert answer({"content": "x"}, usage=usage).usage == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"choices": [{"mess',
        b"<html>Bad gateway</html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": ["x"]}',
        b"\xff\xfe",
    ],
)
def test_malformed_answers_may_pass(raw: bytes) -> None:
    with pytest.raises(TransientModelError, match="malformed"):
        dialect().completion(raw)


def test_an_error_in_an_answer_with_status_200_counts_by_its_code() -> None:
    with pytest.raises(TransientModelError, match="slow down") as caught:
        dialect().completion(b'{"error": {"code": 429, "message": "slow down"}}')
    assert caught.value.status == 429
    with pytest.raises(PermanentModelError, match="no credits"):
        dialect().completion(b'{"error": {"code": 402, "message": "no credits"}}')
    choice = {"message": {}, "finish_reason": "error", "error": {"message": "provider went away"}}
    with pytest.raises(TransientModelError, match="provider went away"):
        dialect().completion(orjson.dumps({"choices": [choice]}))


def test_reasoning_is_switched_off_once_a_model_asks_for_it() -> None:
    learned = dialect()
    refusal = PermanentModelError(
        "HTTP 400: Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. "
        "To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
        400,
    )
    assert learned.concede(refusal)
    assert not learned.concede(refusal)
    with_tools, without = learned.request(TOOLS), learned.request(())
    for request in (with_tools, without):
        request.append(user("x"))
    assert orjson.loads(b"".join(with_tools.render(1, None)))["reasoning_effort"] == "none"
    assert "reasoning_effort" not in orjson.loads(b"".join(without.render(1, None)))


def test_other_refusals_stand() -> None:
    assert not dialect().concede(PermanentModelError("HTTP 400: temperature is not supported", 400))
    assert not dialect().concede(PermanentModelError("HTTP 401: tools reasoning_effort", 401))
