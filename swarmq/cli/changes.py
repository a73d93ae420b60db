"""``swarmq merge``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, write
from swarmq.cli.session import AsJson, SwarmId, connected, wait_for

app = command_app()


@app.command()
def merge(
    swarm_id: SwarmId = "last",
    into: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch to move. [the one checked out at submit]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fast-forward a branch of yours to the result."""

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            target = await handle.merge(into)
            result = (await handle.record()).result
        commit = result.commit if result else None
        if as_json:
            emit_json({"swarm": handle.id, "branch": target, "commit": commit})
        else:
            write(f"{target} is now at {(commit or '')[:10]}, the result of swarm {handle.id}")

    wait_for(go())
