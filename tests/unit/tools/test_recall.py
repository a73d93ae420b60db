from __future__ import annotations

from pathlib import Path

import orjson
from toolbench import Bench

from swarmq.agent.tools.recall import files_seen, recall
from swarmq.models.messages import Message, Role, ToolCall, ToolResult
from swarmq.models.transcript import Entry


def step(number: int, *calls: tuple[str, str, bool]) -> list[Entry]:
    """Calls with their arguments (JSON), and whether each failed."""
    made = tuple(ToolCall(id=f"{number}.{at}", name=name, arguments=text) for at, (name, text, _) in enumerate(calls))
    results = tuple(
        ToolResult(call_id=call.id, name=call.name, content="", is_error=failed)
        for call, (_, _, failed) in zip(made, calls, strict=True)
    )
    messages = (Message(role=Role.ASSISTANT, parts=made), Message(role=Role.TOOL, parts=results))
    return [Entry(step=number, at=1.0, message=message) for message in messages]


def of(path: object) -> str:
    return orjson.dumps({"file_path": path}).decode()


def test_what_calls_that_did_not_fail_have_shown_is_seen() -> None:
    entries = [
        *step(1, ("read", of("a.py"), False), ("read", of("gone.py"), True), ("bash", of("b.py"), False)),
        *step(2, ("edit", of("/state/swarms/s/worktrees/fix-1/lib/c.py"), False), ("read", of("a.py"), False)),
        *step(3, ("read", "no json", False), ("read", of(7), False), ("read", "[]", False), ("write", "{}", False)),
        Entry(
            step=4,
            at=1.0,
            message=Message(role=Role.ASSISTANT, parts=(ToolCall(id="x", name="read", arguments=of("unanswered")),)),
        ),
    ]
    assert files_seen(entries) == ["a.py", "lib/c.py"]


async def test_who_goes_on_elsewhere_may_write_what_was_read_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.file("seen.txt", "old\n")
    bench.file("unseen.txt", "old\n")
    seen = [("read", of(path), False) for path in ("seen.txt", "gone.txt", "../outside", "a\0b", "/etc/passwd")]
    await recall(bench.context, step(1, *seen))
    assert not (await bench.call("write", file_path="seen.txt", content="new\n")).is_error
    refused = await bench.call("write", file_path="unseen.txt", content="new\n")
    assert refused.is_error
    assert "you have not read it" in refused.content
    bench.file("seen.txt", "by another")
    assert (await bench.call("write", file_path="seen.txt", content="newer\n")).is_error
