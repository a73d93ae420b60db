"""A worktree with the tools of one branch on it, for the tests of this directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from swarmq.agent.tools.base import Toolbox, ToolContext
from swarmq.agent.tools.share import SharedResults
from swarmq.models.messages import ToolCall, ToolResult
from swarmq.models.plan import Kind
from swarmq.workspace.shell import Shell, ShellLimits, child_environment


class Bench:
    def __init__(
        self,
        directory: Path,
        kind: Kind = Kind.EDIT,
        *,
        shared: SharedResults | None = None,
        read_roots: tuple[Path, ...] = (),
    ) -> None:
        self.root = directory / "work"
        self.root.mkdir(exist_ok=True)
        self.outputs = directory / "outputs"
        self.cookie = f"test/{directory.name}-{id(self)}"
        self.shell = Shell(self.root, child_environment(), self.cookie, ShellLimits(grace_seconds=0.2))
        self.context = ToolContext(
            root=self.root,
            kind=kind,
            swarm_id="swarm",
            subtask_id="subtask",
            branch_id="branch",
            outputs=self.outputs,
            read_roots=read_roots,
            shell=self.shell,
            shared=shared,
        )
        self.toolbox = Toolbox(self.context)

    def file(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def content(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    async def call(self, tool: str, **arguments: Any) -> ToolResult:
        return await self.raw(tool, orjson.dumps(arguments).decode())

    async def raw(self, tool: str, arguments: str) -> ToolResult:
        result = await self.toolbox.call(ToolCall(id="call-1", name=tool, arguments=arguments))
        assert (result.call_id, result.name) == ("call-1", tool)
        result.content.encode()  # whatever a tool answers can be sent
        return result

    async def ok(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, **arguments)
        assert not result.is_error, result.content
        return result.content

    async def error(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, **arguments)
        assert result.is_error, result.content
        return result.content
