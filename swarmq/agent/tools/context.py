"""What the tools of one branch work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from swarmq.agent.tools.outputs import Outputs
from swarmq.agent.tools.share import SharedResults
from swarmq.agent.tools.stamps import Stamps
from swarmq.errors import ToolError
from swarmq.models.plan import Kind
from swarmq.workspace.guard import resolve_in_any
from swarmq.workspace.shell import Shell


@dataclass(frozen=True)
class ToolContext:
    """One for each branch. ``root`` is None without a repository: then no tool for files is offered."""

    root: Path | None
    kind: Kind
    swarm_id: str
    subtask_id: str
    branch_id: str
    outputs: Path
    """Directory for the full texts of long outputs; made when first needed."""
    read_roots: tuple[Path, ...] = ()
    """Further directories that may be read, by absolute path."""
    shell: Shell | None = None
    shared: SharedResults | None = None
    stamps: Stamps = field(default_factory=Stamps, init=False)
    saved: Outputs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "saved", Outputs(self.outputs))
        object.__setattr__(self, "read_roots", tuple(path.resolve() for path in self.read_roots))
        if self.root is not None:
            object.__setattr__(self, "root", self.root.resolve())

    @property
    def may_read(self) -> bool:
        return self.root is not None

    @property
    def may_write(self) -> bool:
        return self.root is not None and self.kind is not Kind.READ

    @property
    def may_run(self) -> bool:
        return self.shell is not None and self.kind is not Kind.READ

    def working_directory(self) -> Path:
        if self.root is None:
            raise ToolError("this swarm has no repository; there are no files to work on")
        return self.root

    def readable(self, given: str) -> Path:
        """The real path, checked. Blocking; ToolError names the rule that the path breaks."""
        return resolve_in_any((self.working_directory(), *self.read_roots), given)

    def writable(self, given: str) -> Path:
        if not self.may_write:
            raise ToolError("this branch only reads; it may not change files")
        return resolve_in_any((self.working_directory(),), given)

    def shown(self, path: Path) -> str:
        """The path as the agent knows it: relative where it is inside the working directory."""
        root = self.working_directory()
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
