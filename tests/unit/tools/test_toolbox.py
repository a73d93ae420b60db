from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from toolbench import Bench

from swarmq.agent.tools.base import TOOLS, Toolbox, ToolContext
from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.errors import LeaseLost, NotFoundError, StoreError
from swarmq.models.messages import ToolCall
from swarmq.models.plan import Kind
from swarmq.workspace.blocking import run_blocking

WRITING = {"write", "edit", "multiedit", "patch", "bash"}


class Nothing(Arguments):
    pass


def tool(
    run: Callable[[Nothing, ToolContext], Awaitable[str]], name: str = "probe", *, read_only: bool = True
) -> Tool[Nothing]:
    return Tool(name, "Probe.", Nothing, run, lambda context: True, read_only=read_only)


def names(bench: Bench) -> set[str]:
    return {spec.name for spec in bench.toolbox.specs()}


def test_kinds_decide_what_is_offered(tmp_path: Path) -> None:
    assert names(Bench(tmp_path, Kind.EDIT)) == {"read", "list", "glob", "grep", *WRITING}
    assert names(Bench(tmp_path, Kind.VERIFY)) == {"read", "list", "glob", "grep", *WRITING}
    assert names(Bench(tmp_path, Kind.READ)) == {"read", "list", "glob", "grep"}


async def test_a_reader_can_call_nothing_that_writes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Kind.READ)
    for name in sorted(WRITING):
        assert "there is no tool" in await bench.error(name, file_path="a", content="a", command="touch a")
    assert list(bench.root.iterdir()) == []


def test_without_a_repository_there_are_no_file_tools(tmp_path: Path) -> None:
    context = ToolContext(
        root=None, kind=Kind.READ, swarm_id="s", subtask_id="t", branch_id="b", outputs=tmp_path / "outputs"
    )
    assert [spec.name for spec in Toolbox(context).specs()] == ["read"]


def test_schemas_are_plain_objects_that_providers_take() -> None:
    for spec in (tool.spec for tool in TOOLS):
        text = orjson.dumps(spec.parameters).decode()
        assert spec.parameters["type"] == "object"
        assert spec.parameters["additionalProperties"] is False
        assert not any(word in text for word in ("$ref", "$defs", '"title"', "anyOf"))
        assert spec.description
    assert {tool.name for tool in TOOLS if tool.spec.read_only} == {"read", "list", "glob", "grep"}


def test_arguments_have_the_names_that_models_know() -> None:
    known = {tool.name: list(tool.spec.parameters["properties"]) for tool in TOOLS}  # type: ignore[call-overload]
    assert known == {
        "read": ["file_path", "offset", "limit"],
        "write": ["file_path", "content"],
        "edit": ["file_path", "old_string", "new_string", "replace_all"],
        "multiedit": ["file_path", "edits"],
        "patch": ["patch"],
        "list": ["path"],
        "glob": ["pattern", "path"],
        "grep": ["pattern", "path", "glob", "output_mode", "ignore_case", "context"],
        "bash": ["command", "timeout", "description"],
        "swarm_share": ["action", "key", "value", "tags", "prefix", "timeout"],
    }


async def test_an_unknown_tool_is_answered_with_those_there_are(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    answer = await bench.error("raed")
    assert "there is no tool 'raed' (did you mean 'read'?); the tools are: read, write, edit," in answer
    assert "did you mean" not in await bench.error("xyzzy")
    assert len(await bench.error("x" * 1_000_000)) < 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"file_path": "a"', "not valid JSON"),
        ("not json", "not valid JSON"),
        ('{"file_path": "a",}', "not valid JSON"),
        ('{"file_path": "\\ud800"}', "not valid JSON"),
        ("[]", "should be an object"),
        ('"file"', "should be an object"),
        ("null", "should be an object"),
        ("", "file_path is missing"),
        ("  ", "file_path is missing"),
        ("{}", "file_path is missing"),
        ('{"file_path": null}', "file_path is missing"),
        ('{"file_path": 5}', "file_path: input should be a valid string, not 5"),
        ('{"file_path": ["a"]}', "file_path: input should be a valid string, not ['a']"),
        ('{"file_path": "a", "offset": "x"}', "offset: input should be a valid integer"),
        ('{"file_path": "a", "limit": 0}', "limit: input should be greater than or equal to 1, not 0"),
        ('{"file_path": "a", "path": "b"}', "there is no argument 'path'"),
    ],
)
async def test_wrong_arguments_are_told_with_the_usage(tmp_path: Path, arguments: str, said: str) -> None:
    result = await Bench(tmp_path).raw("read", arguments)
    assert result.is_error
    assert said in result.content
    assert "read takes {file_path: string, [offset: integer], [limit: integer]}" in result.content


async def test_the_place_of_a_json_error_is_shown(tmp_path: Path) -> None:
    result = await Bench(tmp_path).raw("write", '{"file_path": "a", "content": "say "hi" to them"}')
    assert "near" in result.content
    assert 'say "hi" to' in result.content


async def test_harmless_differences_are_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.file("a", "one\ntwo\n")
    assert "two" in (await bench.raw("read", '{"file_path": "a", "offset": "2", "limit": null}')).content


async def test_arguments_of_a_megabyte_do_not_come_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    started = time.monotonic()
    assert len((await bench.raw("read", '{"file_path": "' + "x" * 1_000_000 + '"}')).content) < 500
    assert len((await bench.raw("read", "{" * 1_000_000)).content) < 500
    assert len((await bench.raw("read", '{"' + "x" * 1_000_000 + '": 1}')).content) < 500
    assert len((await bench.raw("read", "[" + "1," * 500_000 + "1]")).content) < 500
    assert "is the limit" in (await bench.raw("write", "x" * 3_000_000)).content
    await bench.ok("write", file_path="big", content="x" * 1_000_000)
    assert time.monotonic() - started < 5


async def test_what_a_tool_answers_is_bounded_and_safe(tmp_path: Path) -> None:
    async def long(arguments: Nothing, context: ToolContext) -> str:
        return "begin\x00\x1b[31m\ud800\n" + "line\n" * 20_000 + "end"

    bench = Bench(tmp_path)
    toolbox = Toolbox(bench.context, [tool(long)])
    result = await toolbox.call(ToolCall(id="1", name="probe", arguments="{}"))
    assert len(result.content) < 30_200
    assert result.content.startswith("begin\u2400\u241b[31m\ufffd\n")
    assert result.content.endswith("line\nend")
    assert "characters left out; the whole: read output://1" in result.content
    page = await bench.ok("read", file_path="output://1", offset=19_999)
    assert "19999\tline" in page
    assert "20002\tend" in page


async def test_errors_are_bounded_too(tmp_path: Path) -> None:
    async def fail(arguments: Nothing, context: ToolContext) -> str:
        raise NotFoundError("x" * 100_000)

    result = await Toolbox(Bench(tmp_path).context, [tool(fail)]).call(ToolCall(id="1", name="probe", arguments="{}"))
    assert result.is_error
    assert len(result.content) < 30_200


async def test_the_file_systems_refusals_are_answers(tmp_path: Path) -> None:
    async def full(arguments: Nothing, context: ToolContext) -> str:
        await run_blocking(Path("/dev/full").write_text, "x")
        return "written"

    result = await Toolbox(Bench(tmp_path).context, [tool(full)]).call(ToolCall(id="1", name="probe", arguments="{}"))
    assert result.is_error
    assert "No space left on device" in result.content


async def test_a_bug_in_a_tool_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(arguments: Nothing, context: ToolContext) -> str:
        raise ZeroDivisionError("secret detail")

    result = await Toolbox(Bench(tmp_path).context, [tool(broken)]).call(ToolCall(id="1", name="probe", arguments="{}"))
    assert (result.is_error, result.content) == (True, "probe failed with an internal error: ZeroDivisionError")
    assert "secret detail" in capsys.readouterr().out


@pytest.mark.parametrize("error", [LeaseLost("token 3"), StoreError("away"), asyncio.CancelledError()])
async def test_what_the_agent_did_not_do_wrong_is_raised(tmp_path: Path, error: BaseException) -> None:
    async def fail(arguments: Nothing, context: ToolContext) -> str:
        raise error

    toolbox = Toolbox(Bench(tmp_path).context, [tool(fail)])
    call = ToolCall(id="1", name="probe", arguments="{}")
    with pytest.raises(type(error)):
        await toolbox.call(call)


async def test_real_calls_of_one_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.file("a", "old\n")

    def call(name: str, **arguments: Any) -> ToolCall:
        return ToolCall(id=name, name=name, arguments=orjson.dumps(arguments).decode())

    calls = (
        call("read", file_path="a"),
        call("edit", file_path="a", old_string="old", new_string="new"),
        call("bash", command="cat a"),
        call("nonsense"),
    )
    results = [await bench.toolbox.call(one) for one in calls]
    assert [result.is_error for result in results] == [False, False, False, True]
    assert "new" in results[2].content
