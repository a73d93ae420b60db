"""What every adapter has to do, run over both dialects against the scripted server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import yaml
from samples import TOOLS, tool
from sdk_types import check_request

from swarmq.errors import ModelError, PermanentModelError, TransientModelError
from swarmq.models.messages import Completion, FinishReason, Thinking, ToolResult, Usage, system, user
from swarmq.providers.base import ChatModel, Conversation
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, Settings
from swarmq.testing import Script, ScriptedServer

PATIENCE_SECONDS = 10


@dataclass
class Stage:
    """A scripted server, a model that talks to it, and a conversation that has begun."""

    server: ScriptedServer
    model: ChatModel
    conversation: Conversation

    async def complete(self, timeout_seconds: float = PATIENCE_SECONDS) -> Completion:
        return await self.conversation.complete(
            max_output_tokens=100, temperature=None, timeout_seconds=timeout_seconds
        )

    def answer_calls(self, completion: Completion) -> None:
        """Append the model's message and a result for each call."""
        self.conversation.append(completion.message)
        calls = completion.message.tool_calls
        self.conversation.append(tool(*(ToolResult(call_id=call.id, name=call.name, content="ok") for call in calls)))


@pytest.fixture(params=["openai", "anthropic"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def staged(dialect: str, *turns: dict[str, Any], calls_per_worker: int = 200) -> AsyncIterator[Stage]:
    text = yaml.safe_dump({"conversations": [{"match": "begin", "turns": list(turns)}]})
    server = ScriptedServer(Script.parse(text), keep_bodies=True)
    url = await server.start()
    base_url = url if dialect == "anthropic" else f"{url}/v1"
    endpoint = EndpointSettings.model_validate({"dialect": dialect, "base_url": base_url})
    models = Models(Settings(endpoints={"here": endpoint}, calls_per_worker=calls_per_worker))
    model = await models.open("here:model")
    stage = Stage(server, model, begun(model))
    try:
        yield stage
    finally:
        await stage.conversation.aclose()
        await models.aclose()
        await server.aclose()


def begun(model: ChatModel) -> Conversation:
    conversation = model.conversation(TOOLS)
    conversation.append(system("You are an agent."))
    conversation.append(user("begin"))
    return conversation


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def test_text(dialect: str) -> None:
    async with staged(dialect, {"text": "Done. ä", "usage": {"input": 50, "output": 7, "cached": 30}}) as stage:
        completion = await stage.complete()
    assert completion.message.text == "Done. ä"
    assert completion.finish is FinishReason.STOP
    assert completion.usage == Usage(input_tokens=50, output_tokens=7, cached_tokens=30)


async def test_a_whole_conversation_with_thinking_parallel_calls_errors_and_compaction(dialect: str) -> None:
    turns: list[dict[str, Any]] = [
        {
            "thinking": "Two at once.",
            "text": "I read.",
            "tool_calls": [
                {"name": "read", "arguments": {"file_path": "a"}},
                {"name": "read", "arguments": {"file_path": "ä"}},
            ],
        },
        {"thinking": "Hm.", "tool_calls": [{"name": "bash", "arguments": '{"command": '}]},
        {"text": "Done."},
    ]
    async with staged(dialect, *turns) as stage:
        first = await stage.complete()
        assert [orjson.loads(call.arguments) for call in first.message.tool_calls] == [
            {"file_path": "a"},
            {"file_path": "ä"},
        ]
        assert isinstance(first.message.parts[0], Thinking)
        assert first.message.parts[0].text == "Two at once."
        stage.answer_calls(first)
        second = await stage.complete()
        assert second.finish is FinishReason.TOOL_CALLS
        call = second.message.tool_calls[0]
        compacted = [
            system("You are an agent."),
            user("begin, and this was done"),
            first.message,
            tool(*(ToolResult(call_id=part.id, name="read", content="cut") for part in first.message.tool_calls)),
            second.message,
            tool(ToolResult(call_id=call.id, name="bash", content="not valid JSON", is_error=True)),
        ]
        stage.conversation.replace(compacted)
        last = await stage.complete()
        bodies = [orjson.dumps(request.payload) for request in stage.server.requests]
    assert (last.message.text, last.finish) == ("Done.", FinishReason.STOP)
    assert len(bodies) == 3
    for body in bodies:
        check_request(dialect, body)
    assert b"invalid_json" in bodies[-1]
    assert b"Two at once." in bodies[-1]


@pytest.mark.parametrize(
    ("turn", "finish"),
    [
        ({"text": "x", "finish": "length"}, FinishReason.LENGTH),
        ({"text": "x", "finish": "refusal"}, FinishReason.REFUSAL),
        ({"text": "x", "finish": "something"}, FinishReason.OTHER),
        ({"tool_calls": [{"name": "read"}], "finish": "stop"}, FinishReason.TOOL_CALLS),
        ({"tool_calls": [{"name": "read", "arguments": '{"file_pa'}], "finish": "length"}, FinishReason.LENGTH),
        ({"finish": "stop"}, FinishReason.STOP),
    ],
)
async def test_finish_reasons(dialect: str, turn: dict[str, Any], finish: FinishReason) -> None:
    async with staged(dialect, turn) as stage:
        completion = await stage.complete()
    assert completion.finish is finish
    assert len(completion.message.tool_calls) == len(turn.get("tool_calls", ()))


async def test_an_empty_answer_can_be_followed_by_a_nudge(dialect: str) -> None:
    async with staged(dialect, {"finish": "stop"}, {"text": "Now."}) as stage:
        empty = await stage.complete()
        assert empty.message.parts == ()
        stage.conversation.append(empty.message)
        stage.conversation.append(user("You answered nothing."))
        assert (await stage.complete()).message.text == "Now."


@pytest.mark.parametrize(
    ("fault", "kind", "status", "wait_seconds"),
    [
        ({"error": {"status": 429, "retry_after": 2.5}}, TransientModelError, 429, 2.5),
        ({"error": {"status": 503}}, TransientModelError, 503, 0),
        ({"error": {"status": 529, "retry_after": 1}}, TransientModelError, 529, 1),
        ({"error": {"status": 429, "type": "insufficient_quota"}}, PermanentModelError, 402, 0),
        ({"error": {"status": 401}}, PermanentModelError, 401, 0),
        ({"error": {"status": 400}}, PermanentModelError, 400, 0),
        ({"drop": "before"}, TransientModelError, 0, 0),
        ({"drop": "middle"}, TransientModelError, 0, 0),
        ({"malformed": True}, TransientModelError, 200, 0),
    ],
)
async def test_faults_are_told_and_the_same_conversation_goes_on(
    dialect: str, fault: dict[str, Any], kind: type[ModelError], status: int, wait_seconds: float
) -> None:
    async with staged(dialect, fault, {"text": "after"}) as stage:
        with pytest.raises(ModelError) as caught:
            await stage.complete()
        assert (type(caught.value), caught.value.status) == (kind, status)
        assert caught.value.retry_after_seconds == wait_seconds
        assert str(caught.value).startswith("here: ")
        assert "\n" not in str(caught.value)
        assert (await stage.complete()).message.text == "after"


async def test_one_connection_serves_all_calls_and_closes_with_the_conversation(dialect: str) -> None:
    async with staged(dialect, {"tool_calls": [{"name": "read"}], "times": 5}) as stage:
        for _ in range(5):
            stage.answer_calls(await stage.complete())
        assert (stage.server.calls, stage.server.open_connections) == (5, 1)
        await stage.conversation.aclose()
        await until(lambda: stage.server.open_connections == 0)


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(dialect: str) -> None:
    async with staged(dialect, {"text": "one"}, {"text": "two"}) as stage:
        completion = await stage.complete()
        stage.server.cut_connections()
        await until(lambda: stage.server.open_connections == 0)
        stage.conversation.append(completion.message)
        stage.conversation.append(user("more"))
        assert (await stage.complete()).message.text == "two"


async def test_cancelling_closes_the_connection_at_once(dialect: str) -> None:
    async with staged(dialect, {"text": "late", "latency_ms": 3_600_000}) as stage:
        call = asyncio.create_task(stage.complete(timeout_seconds=3600))
        await until(lambda: stage.server.in_flight == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stage.server.client_gone.wait()
        assert (stage.server.open_connections, stage.server.in_flight, stage.server.clients_gone) == (0, 0, 1)


async def test_cancelling_while_the_body_is_on_its_way_closes_the_connection(dialect: str) -> None:
    async with staged(dialect, {"text": "late", "latency_ms": 3_600_000}) as stage:
        stage.conversation.append(user("x" * 20_000_000))
        call = asyncio.create_task(stage.complete(timeout_seconds=3600))
        await until(lambda: stage.server.open_connections == 1)
        assert stage.server.calls == 0
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: stage.server.open_connections == 0)
        assert stage.server.calls == 0


async def test_a_time_out_closes_the_connection_and_may_pass(dialect: str) -> None:
    async with staged(dialect, {"text": "late", "latency_ms": 3_600_000}) as stage:
        with pytest.raises(TransientModelError, match=r"here: no answer within 0\.05 s"):
            await stage.complete(timeout_seconds=0.05)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stage.server.client_gone.wait()
        assert stage.server.open_connections == 0


async def test_calls_in_flight_are_limited_and_waiting_is_not_timed(dialect: str) -> None:
    async with staged(dialect, {"text": "x", "latency_ms": 400}, calls_per_worker=2) as stage:
        conversations = [begun(stage.model) for _ in range(8)]
        # Four rounds of 400 ms: whoever comes last would be over a time-out that included the waiting.
        calls = [
            conversation.complete(max_output_tokens=10, temperature=None, timeout_seconds=1.5)
            for conversation in conversations
        ]
        completions = await asyncio.gather(*calls)
        assert [completion.message.text for completion in completions] == ["x"] * 8
        assert stage.server.peak_in_flight == 2
        for conversation in conversations:
            await conversation.aclose()


async def test_permits_come_back_from_failed_and_cancelled_calls(dialect: str) -> None:
    fault = {"error": {"status": 500}}
    late = {"text": "late", "latency_ms": 3_600_000}
    async with staged(dialect, fault, late, calls_per_worker=1) as stage:
        with pytest.raises(TransientModelError):
            await stage.complete()
        call = asyncio.create_task(stage.complete(timeout_seconds=3600))
        await until(lambda: stage.server.in_flight == 1)
        waiting = asyncio.create_task(stage.complete(timeout_seconds=3600))
        await asyncio.sleep(0)
        waiting.cancel()
        call.cancel()
        await asyncio.gather(call, waiting, return_exceptions=True)
        other = stage.model.conversation(())
        other.append(user("nothing in the script"))
        with pytest.raises(PermanentModelError, match="no conversation of the script matches"):
            await other.complete(max_output_tokens=10, temperature=None, timeout_seconds=PATIENCE_SECONDS)
        await other.aclose()


async def test_a_long_transcript_goes_out_in_blocks_and_arrives_whole(dialect: str) -> None:
    async with staged(dialect, {"tool_calls": [{"name": "read"}], "times": 50}) as stage:
        for _ in range(50):
            completion = await stage.complete()
            stage.conversation.append(completion.message)
            call = completion.message.tool_calls[0]
            stage.conversation.append(tool(ToolResult(call_id=call.id, name="read", content="ä" * 20_000)))
        body = orjson.dumps(stage.server.requests[-1].payload)
    assert len(body) > 1_900_000
    check_request(dialect, body)


async def test_arguments_of_a_megabyte(dialect: str) -> None:
    content = "x" * 1_000_000
    async with staged(dialect, {"tool_calls": [{"name": "write", "arguments": {"content": content}}]}) as stage:
        completion = await stage.complete()
    assert orjson.loads(completion.message.tool_calls[0].arguments) == {"content": content}
