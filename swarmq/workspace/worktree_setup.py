"""Making a new worktree ready: copied files, then the swarm's ``setup`` command, with its output kept."""

from __future__ import annotations

from pathlib import Path

from swarmq.errors import WorkspaceError
from swarmq.models.options import SwarmOptions
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

SETUP_LOG = "setup.log"
TAIL_CHARACTERS = 2_000


async def ready_worktree(
    repository: SwarmRepository, worktree: Worktree, options: SwarmOptions, shell: Shell, outputs: Path
) -> None:
    """Raises WorkspaceError with the end of the output where ``setup`` fails: the branch then fails, not the agent."""
    if options.copy_globs:
        await repository.copy_ignored(worktree, options.copy_globs)
    if options.setup is None:
        return
    result = await shell.run(options.setup, timeout_seconds=options.setup_timeout_seconds, spill=outputs / SETUP_LOG)
    if result.timed_out:
        raise WorkspaceError(f"setup {options.setup!r} took longer than {options.setup_timeout_seconds:g} s")
    if result.exit_code != 0:
        tail = result.output[-TAIL_CHARACTERS:]
        raise WorkspaceError(f"setup {options.setup!r} ended with exit code {result.exit_code}:\n{tail}")
