"""The tools of a branch: which there are, and what becomes of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from swarmq.agent.tools.bash import BASH
from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.files_read import LIST, READ
from swarmq.agent.tools.files_write import EDIT, MULTIEDIT, WRITE
from swarmq.agent.tools.patch import PATCH
from swarmq.agent.tools.search import GLOB, GREP
from swarmq.agent.tools.share import SHARE
from swarmq.agent.tools.text import head_and_tail, safe
from swarmq.agent.tools.tool import RESULT_CHARACTERS, Tool, suggestion
from swarmq.errors import SwarmqError, ToolError, UsageError
from swarmq.models.messages import ToolCall, ToolResult, ToolSpec

__all__ = ["TOOLS", "ToolContext", "Toolbox"]

log = structlog.get_logger()

TOOLS: tuple[Tool[Any], ...] = (READ, WRITE, EDIT, MULTIEDIT, PATCH, LIST, GLOB, GREP, BASH, SHARE)


class Toolbox:
    """What one branch is offered. Its kind decides: a ``read`` branch has no tool that writes or runs anything."""

    def __init__(self, context: ToolContext, tools: Sequence[Tool[Any]] = TOOLS) -> None:
        self.context = context
        self._tools = {tool.name: tool for tool in tools if tool.offered(context)}

    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call. What the model did wrong is an error result; only faults around us are raised."""
        try:
            text = await self._run(call)
        except (ToolError, UsageError) as error:
            return _failed(call, str(error))
        except SwarmqError:
            raise
        except OSError as error:
            named = f": {error.filename}" if isinstance(error.filename, str) else ""
            return _failed(call, f"{error.strerror or error}{named}")
        except Exception as error:
            # The boundary between tools and loop: a bug in one tool must not end a branch that could do without it.
            log.exception("tool failed", tool=call.name, branch=self.context.branch_id)
            return _failed(call, f"{call.name} failed with an internal error: {type(error).__name__}")
        return ToolResult(call_id=call.id, name=call.name, content=text)

    async def _run(self, call: ToolCall) -> str:
        tool = self._tools.get(call.name)
        if tool is None:
            names = list(self._tools)
            hint = suggestion(call.name, names)
            raise ToolError(f"there is no tool {call.name[:64]!r}{hint}; the tools are: {', '.join(names)}")
        text = await tool.call(call.arguments, self.context)
        if len(text) > tool.result_characters:
            text = await self.context.saved.bounded(text, tool.result_characters)
        return safe(text)


def _failed(call: ToolCall, message: str) -> ToolResult:
    text = head_and_tail(message, RESULT_CHARACTERS, "[... {} characters left out ...]")
    return ToolResult(call_id=call.id, name=call.name, content=safe(text), is_error=True)
