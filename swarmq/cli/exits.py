"""Exit codes, the same for every command, so that scripts can branch on them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from swarmq.errors import EnvironmentFault, ModelError, SwarmqError, UsageError

if TYPE_CHECKING:
    from swarmq.models.swarm import SwarmResult


class ExitCode(IntEnum):
    """What ``swarmq`` ends with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    LIMIT = 4
    ENVIRONMENT = 5
    INTERRUPTED = 130
    PIPE = 141


def of_error(error: SwarmqError) -> ExitCode:
    """The code of an error that ends a command. A model that cannot be called is part of the environment."""
    if isinstance(error, UsageError):
        return ExitCode.USAGE
    if isinstance(error, EnvironmentFault | ModelError):
        return ExitCode.ENVIRONMENT
    return ExitCode.FAILED


def of_result(result: SwarmResult) -> ExitCode:
    """The code of a finished swarm. A limit is named before "partly": it is what the caller can change."""
    from swarmq.models.swarm import SwarmState

    if result.state is SwarmState.SUCCEEDED:
        return ExitCode.OK
    if result.limit is not None and result.state is not SwarmState.CANCELLED:
        return ExitCode.LIMIT
    return ExitCode.PARTLY if result.state is SwarmState.PARTIAL else ExitCode.FAILED
