"""``swarmq up``, ``down`` and ``status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import duration, emit_json, note, pairs, table, write
from swarmq.cli.session import AsJson, end

if TYPE_CHECKING:
    from swarmq.devstack import StackStatus

app = command_app()

MEGABYTE_BYTES = 1_000_000


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the embedded stack: Valkey, workers and beat."""
    from swarmq import devstack
    from swarmq.settings import load_settings

    settings = load_settings()
    info = devstack.up(settings)
    started = info.started
    if info.notice:
        note(info.notice)
    devstack.wait_ready(settings)
    found = devstack.status(settings)
    if as_json:
        emit_json({"started": started, **_as_json(found)})
        return
    write(f"the embedded stack {'is up' if started else 'was up already'}: {len(found.processes)} processes")
    note(f"it stops after {duration(settings.stack_idle_seconds)} without work, or with swarmq down")


@app.command()
def down(
    force: Annotated[bool, typer.Option("--force", help="Even while swarms are unfinished; they go on later.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the embedded stack."""
    from swarmq import devstack
    from swarmq.settings import load_settings

    stopped = devstack.down(load_settings(), force=force)
    if as_json:
        emit_json({"stopped": stopped})
    else:
        write("the embedded stack is down" if stopped else "the embedded stack did not run")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the processes of the embedded stack."""
    from swarmq import devstack
    from swarmq.settings import load_settings

    settings = load_settings()
    if settings.broker() is not None:
        note("a Redis of your own is configured; its workers: swarmq workers")
    found = devstack.status(settings)
    if as_json:
        emit_json(_as_json(found))
    else:
        _print(found)
    end(ExitCode.OK if found.state in ("running", "starting", "stopped") else ExitCode.ENVIRONMENT)


def _print(found: StackStatus) -> None:
    values = [("state", found.state)]
    if found.reason:
        values.append(("reason", found.reason))
    if found.running:
        values += [("up for", duration(found.uptime_seconds)), ("memory", f"{found.rss_bytes / MEGABYTE_BYTES:.0f} MB")]
    values += [("state dir", str(found.state_dir)), ("socket", str(found.socket)), ("logs", str(found.log_dir))]
    pairs(values)
    if found.processes:
        write()
        table(
            ("process", "pid", "up for", "memory", "restarts", "ready", "log"),
            [
                (
                    process.name,
                    str(process.pid),
                    duration(process.uptime_seconds),
                    f"{process.rss_bytes / MEGABYTE_BYTES:.0f} MB",
                    str(process.restarts),
                    "yes" if process.ready else "-",
                    str(process.log),
                )
                for process in found.processes
            ],
            least={},
            spare=("log", "up for", "restarts", "memory"),  # the logs' directory is named above
        )


def _as_json(found: StackStatus) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(found), "rss_bytes": found.rss_bytes}
