"""``swarmq workers``, ``worker`` and ``beat``.

Celery must not be imported before ``swarmq.fleet.worker`` has prepared its environment: this module imports nothing.
"""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import ago, emit_json, note, table
from swarmq.cli.session import AsJson, connected, wait_for

app = command_app()

MEGABYTE_BYTES = 1_000_000


@app.command()
def workers(as_json: AsJson = False) -> None:
    """List the workers that are alive."""

    from swarmq.cli.reports import reported
    from swarmq.settings import load_settings

    async def go() -> None:
        settings = load_settings()
        async with connected(settings) as client:
            found = await reported(client, settings)
        if as_json:
            emit_json(found)
            return
        if not found:
            note("no worker is alive; start one with swarmq worker --queue agents, or all with swarmq up")
            return
        headers = ("name", "queues", "running", "pid", "memory", "longest stall", "version", "started", "seen", "host")
        spare = ("host", "version", "started", "pid", "longest stall", "queues", "memory")
        table(headers, [_cells(worker) for worker in found], least={}, spare=spare)

    wait_for(go())


def _cells(worker: dict[str, object]) -> tuple[str, ...]:
    def number(name: str) -> float:
        value = worker.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    queues = worker.get("queues")
    return (
        str(worker.get("name", "")),
        ",".join(map(str, queues)) if isinstance(queues, list) else "",
        f"{number('running'):.0f}",
        f"{number('pid'):.0f}",
        f"{number('rss_bytes') / MEGABYTE_BYTES:.0f} MB",
        f"{number('longest_stall_ms'):.0f} ms",
        str(worker.get("version", "")),
        ago(number("started_at")),
        ago(number("at")),
        str(worker.get("host", "")),
    )


@app.command()
def worker(
    queue: Annotated[
        list[str],
        typer.Option("--queue", "-Q", metavar="QUEUE", help="control, integrate, agents or pods; may be repeated."),
    ],
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Tasks at once. [the queue's setting]", show_default=False)
    ] = None,
    pool: Annotated[
        str, typer.Option(metavar="agents|prefork", help="agents: one event loop; prefork: a process for each task.")
    ] = "agents",
) -> None:
    """Run one worker in this process."""
    from swarmq.errors import UsageError

    if pool not in ("agents", "prefork"):
        raise UsageError(f"--pool {pool}: choose agents or prefork")
    from swarmq.fleet.worker import run_worker

    run_worker(queue, concurrency=concurrency, pool=pool)


@app.command()
def beat() -> None:
    """Run the clock that looks after swarms in this process."""
    from swarmq.fleet.worker import run_beat

    run_beat()
