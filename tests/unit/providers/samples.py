"""A conversation with everything in it, and tools."""

from __future__ import annotations

import orjson

from swarmq.models.messages import Message, Role, Text, Thinking, ToolCall, ToolResult, ToolSpec, system, user

TOOLS = (
    ToolSpec(
        name="read",
        description="Read a file.",
        parameters={"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
        read_only=True,
    ),
    ToolSpec(name="bash", description="Run a command.", parameters={"type": "object", "properties": {}}),
)

REASONING = {"reasoning_content": "Two files, at once."}
SIGNED = {"type": "thinking", "thinking": "Two files, at once.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h=="}
REDACTED = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP"}


def opaque(value: object) -> str:
    return orjson.dumps(value).decode()


def assistant(*parts: Text | Thinking | ToolCall) -> Message:
    return Message(role=Role.ASSISTANT, parts=parts)


def tool(*results: ToolResult) -> Message:
    return Message(role=Role.TOOL, parts=results)


def thinking(dialect: str) -> tuple[Thinking, ...]:
    if dialect == "openai":
        return (Thinking(text="Two files, at once.", dialect="openai", opaque=opaque(REASONING)),)
    return (
        Thinking(text="Two files, at once.", dialect="anthropic", opaque=opaque(SIGNED)),
        Thinking(text="", dialect="anthropic", opaque=opaque(REDACTED)),
    )


def conversation(dialect: str) -> list[Message]:
    """System, thinking, parallel calls, an error, broken arguments, an unknown tool, an empty answer, a nudge."""
    return [
        system("You are an agent."),
        user("Fix the parser."),
        assistant(
            *thinking(dialect),
            Text(text="I read both."),
            ToolCall(id="call_1", name="read", arguments='{"file_path": "a.py"}'),
            ToolCall(id="call_2", name="read", arguments='{"file_path": "missing.py"}'),
        ),
        tool(
            ToolResult(call_id="call_1", name="read", content="1\tprint('ä')"),
            ToolResult(call_id="call_2", name="read", content="no such file", is_error=True),
        ),
        assistant(
            ToolCall(id="call_3", name="bash", arguments='{"command": "ls'),
            ToolCall(id="call_4", name="functions.read file", arguments="[]"),
        ),
        tool(
            ToolResult(call_id="call_3", name="bash", content="the arguments are not valid JSON", is_error=True),
            ToolResult(call_id="call_4", name="functions.read file", content="", is_error=True),
        ),
        assistant(),
        user("Go on."),
    ]


def compacted(dialect: str) -> list[Message]:
    """The same after compaction: the middle replaced by one message."""
    full = conversation(dialect)
    return [*full[:2], user("[2 messages were removed: read a.py]"), *full[4:]]
