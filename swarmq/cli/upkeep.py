"""``swarmq gc`` and ``cache``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import count, emit_json, note, pairs, plain, write
from swarmq.cli.session import AsJson, connected, wait_for

app = command_app()
cache = command_app(help="Figures of the result cache, and emptying it.", no_args_is_help=True)
app.add_typer(cache, name="cache")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove worktrees and clones whose time is over."""

    async def go() -> None:
        async with connected() as client:
            removed = list(await client.gc(dry_run=dry_run))
        if as_json:
            emit_json({"dry_run": dry_run, "removed": removed})
            return
        for line in removed:
            write(plain(line))
        note(f"{count(len(removed), 'directory').replace('ys', 'ies')} {'would be ' if dry_run else ''}removed")

    wait_for(go())


@cache.command()
def stats(as_json: AsJson = False) -> None:
    """Entries, size, hits and misses of the result cache."""

    async def go() -> None:
        async with connected() as client:
            figures = await client.cache_stats()
        if as_json:
            emit_json(figures)
        else:
            pairs([(name.replace("_", " "), f"{value:,}") for name, value in figures.items()])

    wait_for(go())


@cache.command()
def clear(as_json: AsJson = False) -> None:
    """Forget all cached results."""

    async def go() -> None:
        async with connected() as client:
            removed = await client.cache_clear()
        if as_json:
            emit_json({"removed": removed})
        else:
            write(f"{count(removed, 'result')} forgotten")

    wait_for(go())
