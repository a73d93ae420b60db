"""What an agent that goes on elsewhere has seen of its files, by its conversation: stamps are of one place.

Without it, the first ``write`` after each move would be refused for a file that was read before. A file that a command
changed after the agent's last look counts as seen all the same: which files commands change is not known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import orjson

from swarmq.agent.tools.context import ToolContext
from swarmq.errors import ToolError
from swarmq.models.transcript import Entry
from swarmq.workspace.blocking import run_blocking

LOOKS = frozenset({"read", "write", "edit", "multiedit"})
"""The tools after which a file is known, if they do not fail; each names it as ``file_path``."""
_OLD_WORKTREE = re.compile(r"/.*/worktrees/[^/]+/(?P<inside>.+)")


def files_seen(entries: Iterable[Entry]) -> list[str]:
    """By calls that did not fail; paths inside of an earlier worktree as relative ones. Pure."""
    calls: dict[str, str] = {}
    seen: dict[str, None] = {}
    for entry in entries:
        calls |= {call.id: call.arguments for call in entry.message.tool_calls if call.name in LOOKS}
        for result in entry.message.tool_results:
            path = None if result.is_error else _path(calls.pop(result.call_id, ""))
            if path is not None:
                seen[path] = None
    return list(seen)


def _path(arguments: str) -> str | None:
    try:
        path = orjson.loads(arguments)["file_path"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if not isinstance(path, str):
        return None
    old = _OLD_WORKTREE.fullmatch(path)
    return path if old is None else old["inside"]


async def recall(context: ToolContext, entries: Iterable[Entry]) -> None:
    """Have the files count as seen that are there."""
    seen = files_seen(entries)
    if context.root is not None and seen:
        await run_blocking(_recall, context, seen)


def _recall(context: ToolContext, seen: Iterable[str]) -> None:
    for given in seen:
        try:
            path = context.readable(given)
            context.stamps.saw(path, os.stat(path))
        except (ToolError, OSError, ValueError):
            continue  # gone, or nothing that is a file here
