"""``swarmq watch``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import note
from swarmq.cli.session import AsJson, SwarmId, connected, end, wait_for

app = command_app()


@app.command()
def watch(
    swarm_id: SwarmId = "last",
    as_json: AsJson = False,
    events: Annotated[bool, typer.Option("--events", help="Print events as NDJSON instead of progress.")] = False,
) -> None:
    """Follow a swarm live until it ends."""
    from swarmq.cli.follow import come_back, follow, print_result
    from swarmq.errors import UsageError

    if as_json and events:
        raise UsageError("--json and --events exclude each other")
    followed = ""

    async def go() -> ExitCode:
        nonlocal followed
        async with connected() as client:
            handle = await client.get(swarm_id)
            followed = handle.id
            result = await follow(handle, events=events)
        return print_result(result, as_json=as_json, events=events)

    try:
        end(wait_for(go()))
    except KeyboardInterrupt:
        if followed:
            note(come_back(followed))
        end(ExitCode.INTERRUPTED)
