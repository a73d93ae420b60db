"""Running the tool calls of one answer."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Callable, Sequence

from swarmq.agent.answers import not_begun
from swarmq.agent.narration import Narrator
from swarmq.agent.ports import Leaving, Toolbox
from swarmq.agent.timing import Clock
from swarmq.models.events import Event
from swarmq.models.messages import ToolCall, ToolResult


class ToolCalls:
    """Runs them, and tells of each one that ran."""

    def __init__(
        self, toolbox: Toolbox, narrator: Narrator, clock: Clock, note: Callable[[Event], None], leaving: Leaving
    ) -> None:
        self._toolbox, self._narrator, self._clock, self._note, self._leaving = toolbox, narrator, clock, note, leaving
        self._read_only = {spec.name: spec.read_only for spec in toolbox.specs()}

    def may_write(self, calls: Sequence[ToolCall]) -> bool:
        """Whether the worktree may have changed; a tool that does not exist changes nothing."""
        return any(not self._read_only.get(call.name, True) for call in calls)

    async def run(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """The results in the order of the calls: all at once where none of the tools writes, else one after the other.

        Where it is asked to leave while one runs, those behind it are not begun; the model can ask for them again. If
        one raises, the others are cancelled and its exception is the one that is raised.
        """
        if not all(self._read_only.get(call.name, False) for call in calls):
            before = self._leaving.asked
            return [await self._run(call) if self._leaving.asked == before else not_begun(call) for call in calls]
        try:
            async with TaskGroup() as group:
                tasks = [group.create_task(self._run(call)) for call in calls]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _run(self, call: ToolCall) -> ToolResult:
        started = self._clock.monotonic()
        result = await self._toolbox.call(call)
        self._note(self._narrator.tool_call(call, result, self._clock.monotonic() - started))
        return result
