"""Running the tool calls of one answer."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from swarmq.models.messages import ToolCall, ToolResult

CallTool = Callable[[ToolCall], Coroutine[Any, Any, ToolResult]]


async def run_calls(calls: Sequence[ToolCall], read_only: Mapping[str, bool], call: CallTool) -> list[ToolResult]:
    """The results in the order of the calls: all at once where none of the tools writes, else one after the other.

    If one raises, the others are cancelled and its exception is the one that is raised.
    """
    if not all(read_only.get(one.name, False) for one in calls):
        return [await call(one) for one in calls]
    try:
        async with TaskGroup() as group:
            tasks = [group.create_task(call(one)) for one in calls]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
