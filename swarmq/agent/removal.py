"""What stands in a conversation for the messages that had to leave it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from swarmq.models.messages import Message, ToolCall, user

_LISTED = 60
"""Most files or results that the message names; the newest of them."""
_CHANGED_PATH = re.compile(r"^\+\+\+ (?:b/)?(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Removal:
    """How many messages are gone and what was done in them. A second removal adds to the first."""

    messages: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    files: tuple[str, ...] = ()
    published: tuple[str, ...] = ()

    def plus(self, gone: Sequence[Message]) -> Removal:
        """With these messages gone too. Calls that failed touched nothing and published nothing."""
        done = [(call.name, _arguments(call)) for call in _succeeded(gone)]
        return Removal(
            messages=self.messages + len(gone),
            tools=self.tools + Counter(call.name for message in gone for call in message.tool_calls),
            files=_newest(self.files, (path for name, given in done for path in _files(name, given))),
            published=_newest(self.published, (key for name, given in done for key in _published(name, given))),
        )

    def as_message(self) -> Message:
        lines = [f"[Context truncated: {self.messages} earlier messages removed to fit the context window]"]
        if self.tools:
            used = ", ".join(f"{name} ({count})" for name, count in self.tools.most_common())
            lines.append(f"Tools used in them: {used}")
        if self.files:
            lines.append(f"Files touched in them: {_listed(self.files)}")
        if self.published:
            lines.append(f"Results published in them: {_listed(self.published)}")
        lines.append("Their effects stand. Look at files again before you rely on what you remember of them.")
        return user("\n".join(lines))


def _succeeded(messages: Sequence[Message]) -> Iterator[ToolCall]:
    """Calls whose results are no errors; a result answers the message before it, as ids may come again later."""
    for message, following in zip(messages, (*messages[1:], None), strict=True):
        failed = {result.call_id for result in following.tool_results if result.is_error} if following else set()
        yield from (call for call in message.tool_calls if call.id not in failed)


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        given = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return {}
    return given if isinstance(given, dict) else {}


def _files(tool: str, given: dict[str, Any]) -> Iterator[str]:
    path = given.get("file_path")
    if isinstance(path, str):
        yield path
    patch = given.get("patch")
    if tool == "patch" and isinstance(patch, str):
        yield from (changed for changed in _CHANGED_PATH.findall(patch) if changed != "/dev/null")


def _published(tool: str, given: dict[str, Any]) -> Iterator[str]:
    if tool == "swarm_share" and given.get("action") == "publish" and isinstance(given.get("key"), str):
        yield given["key"]


def _newest(earlier: Iterable[str], later: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order of its last use."""
    names: dict[str, None] = {}
    for name in (*earlier, *later):
        names.pop(name, None)
        names[name] = None
    return tuple(names)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[-_LISTED:])
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown
