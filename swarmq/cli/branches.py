"""``swarmq transcript`` and ``diff``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import console, emit_json, is_terminal, note, plain, write
from swarmq.cli.session import AsJson, SomeBranch, SwarmId, connected, find_branch, wait_for

if TYPE_CHECKING:
    from swarmq.client import AsyncSwarmHandle
    from swarmq.models.branch import BranchRecord

app = command_app()


@app.command()
def transcript(
    swarm_id: SwarmId,
    branch: SomeBranch = None,
    full: Annotated[bool, typer.Option("--full", help="Do not cut long texts and results.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the conversation of a branch."""

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            found = await _only_branch(handle, branch)
            entries = await handle.transcript(found.spec.id)
        if as_json:
            emit_json(entries)
            return
        if not entries:
            note(_why_nothing(found))
        from swarmq.cli.conversation import render

        for line in render(entries, full=full):
            write(line)

    wait_for(go())


def _why_nothing(branch: BranchRecord) -> str:
    """Why a branch has no conversation. ``cached_from`` is SWARM/BRANCH."""
    outcome = branch.outcome
    if outcome is None:
        return "nothing was said yet"
    if outcome.cached_from:
        return f"taken from the cache: swarmq transcript {outcome.cached_from.replace('/', ' ')}"
    return "nothing was said"


async def _only_branch(handle: AsyncSwarmHandle, given: str | None) -> BranchRecord:
    """The branch that was named, or the only one there is."""
    from swarmq.errors import UsageError

    if given is not None:
        return await find_branch(handle, given)
    branches = await handle.branches()
    if len(branches) != 1:
        names = ", ".join(branch.spec.id for branch in branches) or "none yet"
        raise UsageError(f"name a branch of swarm {handle.id}: {names}")
    return branches[0]


@app.command()
def diff(
    swarm_id: SwarmId = "last",
    branch: SomeBranch = None,
    stat: Annotated[bool, typer.Option("--stat", help="Files and counts only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the change of a swarm, or of one branch."""

    async def go() -> tuple[str, str | None, str]:
        async with connected() as client:
            handle = await client.get(swarm_id)
            name = (await find_branch(handle, branch)).spec.id if branch else None
            return handle.id, name, await handle.diff(name, stat=stat)

    found, name, text = wait_for(go())
    if as_json:
        readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        emit_json({"swarm": found, "branch": name, "diff": readable})
    elif not text.strip():
        note("no change")
    elif is_terminal(sys.stdout):
        _coloured(text)
    else:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")  # as it is, for git apply


def _coloured(text: str) -> None:
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    out = console(sys.stdout)
    for line in plain(text).rstrip("\n").split("\n"):
        heading = line.startswith(("diff ", "index ", "+++", "---"))
        out.print(Text(line, style="bold" if heading else styles.get(line[:1], "")), soft_wrap=True)
