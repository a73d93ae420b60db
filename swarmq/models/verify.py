"""Verifying: the commands that decide whether work is right, and what they said."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from swarmq.models.base import Record

MAX_COMMAND_CHARACTERS = 10_000
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""What a shell answers for a command that does not exist, or that may not be executed."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _commands(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value.strip():
            raise ValueError("a command must not be empty")
        if "\0" in value or len(value) > MAX_COMMAND_CHARACTERS:
            raise ValueError(
                "a command must be shorter than 10,000 characters and hold no NUL; write a script for more"
            )
    return values


Commands = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_commands)]
"""One command or several; each is run by the shell, in order, until one fails."""


class VerifyReport(Record):
    """What verifying came to. ``command`` is the one that failed, or the last one that passed."""

    passed: bool
    command: str
    exit_code: int | None = Field(None, description="None where it was ended: it took too long, or was killed.")
    timed_out: bool = False
    stopped: str | None = Field(None, description="Why it was ended, if not for its time.")
    seconds: float = Field(0.0, description="Of all commands that were run.")
    output: str = Field("", description="Head and tail of what it printed.")
    whole: str | None = Field(
        None, description="Where all that it printed is, if that is more: output://ID, or a path."
    )
    changed: tuple[str, ...] = Field((), description="Files that it changed; the changes were dropped.")
    commit: str | None = Field(None, description="The commit that was verified; None: the worktree of a branch.")

    @property
    def ending(self) -> str:
        """How the command ended, to go behind its name."""
        if self.timed_out:
            return "was ended with all its processes: it took too long"
        if self.stopped is not None:
            return f"was ended with all its processes: {self.stopped}"
        if self.exit_code == _NOT_FOUND:
            return f"ended with exit code {self.exit_code}: a command does not exist"
        if self.exit_code == _NOT_EXECUTABLE:
            return f"ended with exit code {self.exit_code}: a command cannot be executed"
        if self.exit_code is not None and self.exit_code < 0:
            return f"was killed by signal {-self.exit_code}"
        return f"ended with exit code {self.exit_code}"

    @property
    def lacks_command(self) -> bool:
        """Whether something that it wanted to run is not there, or cannot be run."""
        return self.exit_code in (_NOT_FOUND, _NOT_EXECUTABLE)
