from __future__ import annotations

from typing import Any

import orjson
import pytest
from samples import REDACTED, SIGNED, TOOLS, assistant, conversation, opaque, tool

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.models.messages import (
    Completion,
    FinishReason,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    system,
    user,
)
from swarmq.providers.anthropic import AnthropicDialect, AnthropicRequest
from swarmq.providers.fragments import BLOCK_BYTES

DIALECT = AnthropicDialect("claude-sonnet-5")
MARK = {"type": "ephemeral"}


def render(request: AnthropicRequest, temperature: float | None = None) -> dict[str, Any]:
    payload: dict[str, Any] = orjson.loads(b"".join(request.render(100, temperature)))
    return payload


def body(*messages: Message, tools: bool = True) -> dict[str, Any]:
    request = DIALECT.request(TOOLS if tools else ())
    for message in messages:
        request.append(message)
    return render(request)


def answer(content: Any, stop_reason: str | None = "end_turn", usage: Any = None) -> Completion:
    payload = {"type": "message", "content": content, "stop_reason": stop_reason, "usage": usage}
    return DIALECT.completion(orjson.dumps(payload))


def marks(value: Any, path: str = "") -> list[str]:
    """Where cache marks stand, as ``messages.2.content.1``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if isinstance(value, dict) and value.get("cache_control") == MARK else []
    return found + [mark for key, item in items for mark in marks(item, f"{path}.{key}".lstrip("."))]


def step(number: int, result: str = "ok") -> tuple[Message, Message]:
    call = ToolCall(id=f"toolu_{number}", name="read", arguments="{}")
    return assistant(call), tool(ToolResult(call_id=call.id, name="read", content=result))


def test_the_first_request_marks_tools_system_and_the_user_message() -> None:
    payload = body(system("s"), user("u"))
    assert marks(payload) == ["tools.1", "system.0", "messages.0.content.0"]
    assert payload["messages"] == [{"role": "user", "content": [{"type": "text", "text": "u", "cache_control": MARK}]}]


def test_marks_move_to_the_last_two_user_messages_and_never_exceed_four() -> None:
    request = DIALECT.request(TOOLS)
    request.append(system("s"))
    request.append(user("u"))
    for number in range(5):
        for message in step(number):
            request.append(message)
        payload = render(request)
        last = 2 * number + 2
        assert marks(payload) == [
            "tools.1",
            "system.0",
            f"messages.{last - 2}.content.0",
            f"messages.{last}.content.0",
        ]


def test_the_mark_is_on_the_last_result_of_a_parallel_step() -> None:
    assert marks(body(*conversation("anthropic")[:4]))[-1] == "messages.2.content.1"


def test_marks_survive_folding_and_the_prefix_stays_as_it_was() -> None:
    request = DIALECT.request(TOOLS)
    request.append(user("u"))
    bare_before: Any = None
    for number in range(60):
        for message in step(number, "x" * 10_000):
            request.append(message)
        chunks = request.render(100, None)
        payload = orjson.loads(b"".join(chunks))
        assert len(marks(payload)) == 3
        bare = _without_marks(payload["messages"])
        assert bare_before is None or bare[: len(bare_before)] == bare_before
        bare_before = bare
    assert 2 < len(chunks) <= 2 + 600_000 // BLOCK_BYTES + 1
    assert len(bare_before) == 121


def test_a_huge_last_message_is_not_folded_away_from_its_mark() -> None:
    request = DIALECT.request(TOOLS)
    request.append(user("u"))
    for number in range(4):
        for message in step(number, "x" * 2 * BLOCK_BYTES):
            request.append(message)
        assert [mark.split(".")[1] for mark in marks(render(request))[1:]] == [str(2 * number), str(2 * number + 2)]


def test_replacing_moves_the_marks_and_the_system_text() -> None:
    request = DIALECT.request(TOOLS)
    for message in (system("old"), *conversation("anthropic")[1:]):
        request.append(message)
    request.replace([system("new"), user("a"), assistant(Text(text="b")), user("c")])
    payload = render(request)
    assert payload["system"] == [{"type": "text", "text": "new", "cache_control": MARK}]
    assert marks(payload) == ["tools.1", "system.0", "messages.0.content.0", "messages.2.content.0"]


def test_thinking_goes_back_verbatim_with_its_signature_and_in_its_place() -> None:
    blocks = [
        SIGNED,
        REDACTED,
        {"type": "text", "text": "first"},
        {**SIGNED, "thinking": "", "signature": "other=="},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"file_path": "a"}},
    ]
    completion = answer(blocks, "tool_use")
    wire = body(user("u"), completion.message)["messages"][1]
    assert wire == {"role": "assistant", "content": blocks}
    texts = [part.text for part in completion.message.parts if isinstance(part, Thinking)]
    assert texts == ["Two files, at once.", "", ""]


def test_blocks_of_an_unknown_type_go_back_verbatim() -> None:
    blocks = [{"type": "server_tool_use", "id": "s1", "name": "x", "input": {}}, {"type": "text", "text": "t"}]
    completion = answer(blocks)
    assert completion.message.text == "t"
    assert body(user("u"), completion.message)["messages"][1]["content"] == blocks


def test_another_dialects_thinking_is_left_out() -> None:
    foreign = assistant(Thinking(text="t", dialect="openai", opaque='{"reasoning_content":"t"}'), Text(text="x"))
    assert body(user("u"), foreign)["messages"][1]["content"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize(
    "message",
    [
        assistant(),
        assistant(Text(text=" \n")),
        assistant(Thinking(text="", dialect="anthropic", opaque=opaque(SIGNED))),
    ],
)
def test_no_message_is_empty_or_ends_in_thinking(message: Message) -> None:
    assert body(user("u"), message)["messages"][1]["content"][-1] == {"type": "text", "text": "-"}


def test_results_are_one_user_message_and_errors_say_so() -> None:
    wire = body(*conversation("anthropic")[:4])["messages"][2]
    assert wire["role"] == "user"
    assert [(block["tool_use_id"], block.get("is_error", False)) for block in wire["content"]] == [
        ("call_1", False),
        ("call_2", True),
    ]


@pytest.mark.parametrize("broken", ['{"command": "ls', "[]", "", "3"])
def test_arguments_that_are_no_object_go_back_as_one_that_names_them(broken: str) -> None:
    wire = body(user("u"), assistant(ToolCall(id="1", name="bash", arguments=broken)))["messages"][1]
    assert wire["content"][0]["input"] == {"invalid_json": broken}


def test_tool_input_comes_back_as_the_arguments_text() -> None:
    completion = answer([{"type": "tool_use", "id": "t", "name": "read", "input": {"n": 1, "s": "ä"}}], "tool_use")
    assert completion.message.tool_calls == (ToolCall(id="t", name="read", arguments='{"n":1,"s":"ä"}'),)


def test_temperature_is_sent_only_where_set() -> None:
    request = DIALECT.request(())
    request.append(user("u"))
    assert "temperature" not in render(request)
    assert render(request, 0.5)["temperature"] == 0.5


@pytest.mark.parametrize(
    ("raw", "calls", "finish"),
    [
        ("end_turn", False, FinishReason.STOP),
        ("end_turn", True, FinishReason.TOOL_CALLS),
        ("stop_sequence", False, FinishReason.STOP),
        ("tool_use", True, FinishReason.TOOL_CALLS),
        ("tool_use", False, FinishReason.OTHER),
        (None, True, FinishReason.TOOL_CALLS),
        ("max_tokens", False, FinishReason.LENGTH),
        ("max_tokens", True, FinishReason.LENGTH),
        ("model_context_window_exceeded", False, FinishReason.LENGTH),
        ("refusal", False, FinishReason.REFUSAL),
        ("pause_turn", False, FinishReason.OTHER),
    ],
)
def test_finish_reasons(raw: str | None, calls: bool, finish: FinishReason) -> None:
    content = [{"type": "text", "text": "x"}]
    if calls:
        content.append({"type": "tool_use", "id": "t", "name": "read"})
    completion = answer(content, raw)
    assert (completion.finish, completion.raw_finish) == (finish, raw or "")
    assert len(completion.message.tool_calls) == calls


def test_an_empty_answer_has_no_parts() -> None:
    assert answer([]).message.parts == ()
    assert answer([{"type": "text", "text": ""}]).message.parts == ()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 80,
                "cache_creation_input_tokens": 5,
                "output_tokens": 7,
            },
            Usage(input_tokens=95, output_tokens=7, cached_tokens=80, cache_write_tokens=5),
        ),
        (
            {"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 7},
            Usage(input_tokens=10, output_tokens=7),
        ),
        (None, Usage()),
    ],
)
def test_usage_is_the_total_with_its_parts(usage: Any, expected: Usage) -> None:
    assert answer([{"type": "text", "text": "x"}], usage=usage).usage == expected


@pytest.mark.parametrize("raw", [b"", b'{"content": [{"ty', b"[]", b"{}", b'{"content": "x"}', b'{"content": ["x"]}'])
def test_malformed_answers_may_pass(raw: bytes) -> None:
    with pytest.raises(TransientModelError, match="malformed"):
        DIALECT.completion(raw)


def test_an_error_in_an_answer_with_status_200_is_one() -> None:
    with pytest.raises(TransientModelError, match="Overloaded"):
        DIALECT.completion(b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')


def test_nothing_is_conceded() -> None:
    assert not DIALECT.concede(PermanentModelError("HTTP 400: tools reasoning_effort", 400))


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(item) for key, item in value.items() if key != "cache_control"}
    return [_without_marks(item) for item in value] if isinstance(value, list) else value
