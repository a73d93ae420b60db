"""Verifying: the commands that decide whether work is right, and what they said."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from swarmq.models.base import Record


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _commands(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value.strip():
            raise ValueError("a command must not be empty")
    return values


Commands = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_commands)]
"""One command or several; each is run by the shell, in order, until one fails."""


class VerifyReport(Record):
    """What verifying came to. ``command`` is the one that failed, or the last one that passed."""

    passed: bool
    command: str
    exit_code: int | None = Field(None, description="None where it was ended: it took too long, or was killed.")
    timed_out: bool = False
    seconds: float = 0.0
    output: str = Field("", description="Head and tail of what it printed.")
    changed: tuple[str, ...] = Field((), description="Files that it changed; the changes were dropped.")
    commit: str | None = Field(None, description="The commit that was verified; None: the worktree of a branch.")
