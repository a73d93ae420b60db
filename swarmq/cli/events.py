"""``swarmq events``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, write
from swarmq.cli.session import AsJson, SwarmId, connected, end, find_branch, wait_for

if TYPE_CHECKING:
    from swarmq.client import AsyncClient, AsyncSwarmHandle
    from swarmq.models.events import Event

app = command_app()

BATCH = 1000


@app.command()
def events(
    swarm_id: SwarmId = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the swarm ends.")] = False,
    after: Annotated[str, typer.Option(metavar="EVENT", help="Only what came after the event of this id.")] = "0",
    branch: Annotated[str | None, typer.Option(metavar="BRANCH", help="Only events of this branch.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what happened in a swarm."""

    async def go() -> None:
        from swarmq.cli.lines import line

        async with connected() as client:
            handle = await client.get(swarm_id)
            only = (await find_branch(handle, branch)).spec.id if branch else None
            source = handle.events(after) if follow else recorded(client, handle, after)
            async for event in source:
                if only is not None and event.branch != only:
                    continue
                emit_json(event, line=True) if as_json else write(f"{event.id:<18}  {line(event)}")

    try:
        wait_for(go())
    except KeyboardInterrupt:
        end(ExitCode.INTERRUPTED)


async def recorded(client: AsyncClient, handle: AsyncSwarmHandle, after: str) -> AsyncIterator[Event]:
    """The events there are by now, in batches."""
    while batch := await client.store.events.read(handle.id, after, count=BATCH):
        for event in batch:
            yield event
        after = batch[-1].id
