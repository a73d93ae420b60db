"""A branch's worktree: opened, then made ready with copied files and ``setup``, whose output is kept."""

from __future__ import annotations

from pathlib import Path

from swarmq.errors import SetupError
from swarmq.models.branch import BranchSpec
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

SETUP_LOG = "setup.log"
TAIL_CHARACTERS = 2_000


async def open_worktree(
    repository: SwarmRepository, spec: BranchSpec, base: str, token: int, checkpoint: str | None
) -> Worktree:
    """The branch's files: its checkpoint, or the base, in which a resolver finds the other side merged."""
    if spec.kind is Kind.READ:
        return await repository.open_reader(spec.stage, base)
    if spec.theirs is not None:
        return await repository.open_resolver(spec.id, token, base, spec.theirs, checkpoint)
    return await repository.open_worktree(spec.id, token, checkpoint or base)


async def ready_worktree(
    repository: SwarmRepository, worktree: Worktree, options: SwarmOptions, shell: Shell, outputs: Path
) -> None:
    """Raises SetupError with the end of the output where ``setup`` fails: the branch then fails, not the agent."""
    if options.copy_globs:
        await repository.copy_ignored(worktree, options.copy_globs)
    if options.setup is None:
        return
    result = await shell.run(options.setup, timeout_seconds=options.setup_timeout_seconds, spill=outputs / SETUP_LOG)
    if result.timed_out:
        raise SetupError(f"setup {options.setup!r} took longer than {options.setup_timeout_seconds:g} s")
    if result.exit_code != 0:
        tail = result.output[-TAIL_CHARACTERS:]
        raise SetupError(f"setup {options.setup!r} ended with exit code {result.exit_code}:\n{tail}")
