"""The embedded stack: Valkey, workers and beat under one supervisor.

For a machine without a Redis of its own: the first command starts it, all commands of the user share it, and it stops
when idle. All functions block (``ensure`` for a fraction of a second); asynchronous callers run them in a thread.
This package imports little, because the supervisor starts from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swarmq.devstack.stack import Stack
from swarmq.devstack.status import ProcessStatus, StackInfo, StackStatus
from swarmq.errors import UsageError

if TYPE_CHECKING:
    from swarmq.settings import Settings

__all__ = ["ProcessStatus", "StackInfo", "StackStatus", "down", "ensure", "status", "touch", "up", "wait_ready"]


def ensure(settings: Settings, *, bring_variables: bool = False) -> StackInfo:
    """The Redis to use: the configured one, else the embedded stack, started if need be. EnvironmentFault if not.

    ``bring_variables`` is for who submits work: the workers of a stack that runs already learn this client's keys and
    endpoints, for which they are restarted where these are new to them.
    """
    if url := settings.broker():
        return StackInfo(url, settings.redis_url_file, Path(settings.runtime_dir), started=False)
    return Stack(settings).ensure(bring_variables=bring_variables)


def up(settings: Settings) -> StackInfo:
    """Start the embedded stack, or bring the one that runs this client's keys and endpoints.

    UsageError when a Redis of the user's own is configured.
    """
    if settings.broker():
        raise UsageError("SWARMQ_REDIS_URL is set, so there is no embedded stack: unset it, or start your own workers")
    return Stack(settings).ensure(bring_variables=True)


def wait_ready(settings: Settings, timeout_seconds: float = 30.0) -> None:
    """Until the embedded workers take tasks; EnvironmentFault with the reason when they do not."""
    Stack(settings).wait_ready(timeout_seconds)


def down(settings: Settings, *, force: bool = False) -> bool:
    """Stop the embedded stack; whether it ran. Without ``force``, UsageError while swarms are unfinished."""
    return Stack(settings).down(force=force)


def status(settings: Settings) -> StackStatus:
    """How the embedded stack does."""
    return Stack(settings).status()


def touch(settings: Settings) -> None:
    """Keep the embedded stack from stopping for being idle; for clients that only wait."""
    Stack(settings).touch()
