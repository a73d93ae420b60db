"""``swarmq merge`` and ``retry``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, note, write
from swarmq.cli.session import AsJson, SwarmId, connected, end, submitted, wait_for

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


@app.command()
def retry(
    swarm_id: SwarmId = "last",
    failed: Annotated[bool, typer.Option("--failed", help="What succeeded is taken from the result cache.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the new swarm's id, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run an ended swarm's plan again; what succeeded comes from the cache."""
    from swarmq.cli.follow import come_back, follow, print_result
    from swarmq.errors import UsageError

    if not failed:
        raise UsageError(f"say what to retry: swarmq retry {swarm_id} --failed")
    new_id = ""

    def learn(its_id: str) -> None:
        nonlocal new_id
        new_id = its_id

    async def go() -> ExitCode:
        async with connected() as client:
            handle = await submitted((await client.get(swarm_id)).retry_failed(), learn)
            if detach:
                emit_json({"id": new_id}) if as_json else write(new_id)
                return ExitCode.OK
            note(f"swarm {new_id}; Ctrl-C leaves it running")
            result = await follow(handle)
        return print_result(result, as_json=as_json)

    try:
        end(wait_for(go()))
    except KeyboardInterrupt:
        note(come_back(new_id) if new_id else "\ninterrupted; no swarm was started")
        end(ExitCode.INTERRUPTED)
