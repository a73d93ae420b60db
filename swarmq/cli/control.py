"""``swarmq pause``, ``resume`` and ``cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, write
from swarmq.cli.session import AsJson, SomeBranch, SwarmId, connected, find_branch, wait_for

app = command_app()


@app.command()
def pause(
    swarm_id: SwarmId,
    reason: Annotated[str, typer.Option(help="Why; kept in the records.")] = "paused by the user",
    as_json: AsJson = False,
) -> None:
    """Start no new step of a swarm; what runs is finished."""
    from swarmq.errors import UsageError

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            if not await handle.pause(reason):
                raise UsageError(f"swarm {handle.id} has ended or is being cancelled: there is nothing to pause")
        if as_json:
            emit_json({"swarm": handle.id, "paused": True})
        else:
            write(f"swarm {handle.id} is paused; let it go on: swarmq resume {handle.id}")

    wait_for(go())


@app.command()
def resume(swarm_id: SwarmId, as_json: AsJson = False) -> None:
    """Let a paused swarm go on."""
    from swarmq.errors import UsageError

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            if not await handle.resume():
                raise UsageError(
                    f"swarm {handle.id} has ended or is being cancelled: there is nothing to resume; run its failed"
                    f" subtasks again with swarmq retry {handle.id} --failed"
                )
        if as_json:
            emit_json({"swarm": handle.id, "paused": False})
        else:
            write(f"swarm {handle.id} goes on; follow it: swarmq watch {handle.id}")

    wait_for(go())


@app.command()
def cancel(
    swarm_id: SwarmId,
    branch: SomeBranch = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the records.")] = "cancelled by the user",
    as_json: AsJson = False,
) -> None:
    """Stop a swarm, or one branch of it."""
    from swarmq.errors import UsageError

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            name = (await find_branch(handle, branch)).spec.id if branch else None
            cancelled = await handle.cancel(reason, name)
        what = f"branch {name} of swarm {handle.id}" if name else f"swarm {handle.id}"
        if as_json:
            emit_json({"swarm": handle.id, "branch": name, "cancelled": cancelled})
        elif cancelled:
            write(f"{what} is being cancelled")
        if not cancelled:
            raise UsageError(f"{what} had ended already; see how with 'swarmq show {handle.id}'")

    wait_for(go())
