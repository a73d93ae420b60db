"""What commands share: a connected client, the event loop's run, finding a branch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from swarmq.cli.render import note

if TYPE_CHECKING:
    from swarmq.client import AsyncClient, AsyncSwarmHandle
    from swarmq.models.branch import BranchRecord
    from swarmq.settings import Settings

T = TypeVar("T")

NEWEST = ("last", "-")
"""What names the newest swarm, whichever that is."""
SwarmId = Annotated[str, typer.Argument(metavar="ID", help="A swarm: its id, a unique beginning of it, or 'last'.")]
BranchId = Annotated[str, typer.Argument(metavar="BRANCH", help="A branch: its id, or a unique beginning of it.")]
SomeBranch = Annotated[
    str | None, typer.Argument(metavar="BRANCH", help="A branch: its id, or a unique beginning of it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end in an event loop of its own. Ctrl-C cancels it and is raised as KeyboardInterrupt."""
    return asyncio.run(coroutine)


def end(code: int) -> None:
    """End the command with that exit code."""
    if code:
        raise typer.Exit(int(code))


@asynccontextmanager
async def connected(settings: Settings | None = None) -> AsyncIterator[AsyncClient]:
    """A client; the embedded stack is started where no Redis is named."""
    from swarmq.settings import load_settings

    settings = settings or load_settings()
    quiet_logs(settings)
    async with open_client(settings) as client:
        yield client


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[AsyncClient]:
    """The real client. StoreError within 2 s where the Redis that is named does not answer."""
    from swarmq.client import AsyncClient
    from swarmq.store.server import check

    url = settings.broker()
    if url is not None:
        await check(url)
    async with AsyncClient(settings=settings) as client:
        yield client


async def submitted(
    submission: Coroutine[Any, Any, AsyncSwarmHandle], learn: Callable[[str], None]
) -> AsyncSwarmHandle:
    """Submit, and let ``learn`` have the id. Ctrl-C waits for it: a swarm that is recorded must not be denied.

    Says so where nothing was started, because the idempotency key has a swarm already.
    """
    task = asyncio.ensure_future(submission)
    try:
        handle = await asyncio.shield(task)
    except asyncio.CancelledError:
        learn((await task).id)
        raise
    learn(handle.id)
    if handle.joined:
        note(f"joined swarm {handle.id}: its idempotency key is this one; task and options stay what they were then")
    return handle


def quiet_logs(settings: Settings) -> None:
    """A command's own log lines are for people and go to stderr: only warnings, unless debug is asked for."""
    from swarmq.logs import configure_logs

    level = "debug" if settings.log_level == "debug" else "warning"
    configure_logs(settings.model_copy(update={"log_format": "console", "log_level": level}))


async def find_branch(handle: AsyncSwarmHandle, given: str) -> BranchRecord:
    """The branch of that id or unique beginning. NotFoundError or UsageError names what there is."""
    from swarmq.errors import NotFoundError, UsageError

    branches = await handle.branches()
    exact = [branch for branch in branches if branch.spec.id == given]
    found = exact or [branch for branch in branches if branch.spec.id.startswith(given)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(branch.spec.id for branch in (found or branches))
    if found:
        raise UsageError(f"branch {given!r} is not unique: {names}")
    raise NotFoundError(f"swarm {handle.id} has no branch {given!r}" + (f"; it has {names}" if names else ""))
