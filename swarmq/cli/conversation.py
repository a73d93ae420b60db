"""A transcript as text for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from swarmq.cli.render import clock, duration, plain
from swarmq.models.messages import Role, Text, Thinking, ToolCall, ToolResult
from swarmq.models.transcript import Entry

CUT_LINES = 20
CUT_CHARACTERS = 2000


def render(entries: Sequence[Entry], *, full: bool) -> Iterator[str]:
    """Lines: a heading for each message, then its parts. Unless ``full``, long parts are cut and say so."""
    for index, entry in enumerate(entries):
        if index:
            yield ""
        yield _heading(entry)
        for part in entry.message.parts:
            match part:
                case Text():
                    yield from _body(part.text, full)
                case Thinking():
                    yield from (f"  ~ {line}" for line in _body(part.text or "(not shown by the provider)", full))
                case ToolCall():
                    yield f"→ {plain(part.name)}"
                    yield from (f"    {line}" for line in _body(_arguments(part.arguments), full))
                case ToolResult():
                    yield f"← {plain(part.name)}{' (error)' if part.is_error else ''}"
                    yield from (f"    {line}" for line in _body(part.content, full))


def _heading(entry: Entry) -> str:
    role = entry.message.role
    parts = [f"step {entry.step}" if role in (Role.ASSISTANT, Role.TOOL) else role.value]
    if role is Role.TOOL:
        parts.append("results")
    parts.append(clock(entry.at))
    if entry.usage is not None:
        usage = entry.usage
        parts.append(f"{usage.input_tokens:,} tokens in ({usage.cached_tokens:,} cached), {usage.output_tokens:,} out")
    if entry.seconds:
        parts.append(duration(entry.seconds))
    if entry.finish is not None and entry.finish not in ("stop", "tool_calls"):
        parts.append(entry.finish.value)
    if entry.adopted_from is not None:
        parts.append(f"in {entry.adopted_from}")
    return f"── {' · '.join(parts)} ──"


def _arguments(raw: str) -> str:
    """Arguments as ``name: value`` lines; as they came where they are no JSON object."""
    try:
        values = json.loads(raw)
    except ValueError:
        return raw
    if not isinstance(values, dict):
        return raw
    lines = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
    return "\n".join(lines)


def _body(text: str, full: bool) -> list[str]:
    clean = plain(text).strip("\n")
    shown = clean if full else "\n".join(clean[:CUT_CHARACTERS].split("\n")[:CUT_LINES])
    lines = shown.split("\n")
    if len(shown) < len(clean):
        lines.append(f"… {len(clean) - len(shown):,} more characters; --full shows them")
    return lines
