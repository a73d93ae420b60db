"""The user's own check of a running branch: a command in its worktree."""

from __future__ import annotations

from swarmq.collapse.checks import PROBLEM_CHARACTERS
from swarmq.errors import ToolError
from swarmq.workspace.shell import Shell

_NOT_RUN = {126: "it cannot be executed", 127: "it is not found"}
"""What shells answer for a command that they could not start: nothing was probed."""


class Probe:
    """Runs the command; cancelling ends its processes."""

    def __init__(self, shell: Shell, command: str, timeout_seconds: float) -> None:
        self._shell, self._command, self._timeout_seconds = shell, command, timeout_seconds

    async def __call__(self) -> tuple[bool | None, str]:
        """Whether it passed (None: it could not be run, or did not end), and what is to be said if it did not."""
        try:
            result = await self._shell.run(self._command, timeout_seconds=self._timeout_seconds)
        except ToolError as error:
            return None, f"the probe did not run: {error}"
        if result.exit_code is None:
            return None, f"the probe did not end by itself: {result.stopped}"
        if result.exit_code in _NOT_RUN:
            return None, f"the probe did not run: {_NOT_RUN[result.exit_code]} (exit {result.exit_code})"
        lines = result.output.strip().splitlines()
        last = lines[-1] if lines else "no output"
        return result.exit_code == 0, f"probe: exit {result.exit_code}: {last}"[:PROBLEM_CHARACTERS]
