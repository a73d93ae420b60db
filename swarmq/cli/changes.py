"""``swarmq merge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, write
from swarmq.cli.session import NEWEST, AsJson, SwarmId, connected, wait_for

if TYPE_CHECKING:
    from swarmq.models.swarm import SwarmSpec

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
            record = await handle.record()
            if swarm_id in NEWEST:
                await _refuse_elsewhere(record.spec)
            target = await handle.merge(into)
        repository = record.spec.repo
        commit = record.result.commit if record.result else None
        if as_json:
            emit_json({"swarm": handle.id, "repository": repository, "branch": target, "commit": commit})
        else:
            write(f"{target} is now at {(commit or '')[:10]}, the result of swarm {handle.id}, in {repository}")

    wait_for(go())


async def _refuse_elsewhere(spec: SwarmSpec) -> None:
    """UsageError where nobody named the swarm, and this directory is in another repository than its own."""
    from swarmq.errors import UsageError
    from swarmq.workspace.blocking import run_blocking

    if spec.repo is None:
        return
    here = await run_blocking(_common_directory, Path.cwd())
    if here is not None and here != await run_blocking(_common_directory, Path(spec.repo)):
        raise UsageError(
            f"the newest swarm is of another repository, {spec.repo}: if you mean it, swarmq merge {spec.id};"
            " the other swarms: swarmq ls"
        )


def _common_directory(path: Path) -> Path | None:
    """What all worktrees of a repository share; None outside of one."""
    from swarmq.errors import UsageError
    from swarmq.workspace.repository import read_repository

    try:
        return read_repository(path).common_dir.resolve()
    except UsageError:
        return None
