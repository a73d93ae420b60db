"""``swarmq agent``: one agent without a fleet, as in a pod of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.session import end, wait_for

if TYPE_CHECKING:
    from swarmq.pod.payload import Payload

app = command_app()


@app.command()
def agent(
    payload_file: Annotated[
        Path, typer.Option("--payload-file", metavar="FILE", help="What to do, written by swarmq; it is removed.")
    ],
    directory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to work. [a new one here, removed at the end]", show_default=False),
    ] = None,
) -> None:
    """Run the agent of one payload; its log is the result.

    This is what a pod of a branch runs. It needs neither broker nor Redis, only git, and a route to the model.
    """
    from swarmq.pod.process import read_payload
    from swarmq.workspace.environment import hide_environment

    payload = read_payload(payload_file)
    hide_environment()
    end(_run(payload, directory))


def _run(payload: Payload, directory: Path | None) -> int:
    from swarmq.cli.exits import ExitCode
    from swarmq.pod.process import work_on

    outcome = wait_for(work_on(payload, directory))
    if outcome is None:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if outcome.success else ExitCode.FAILED
