"""``swarmq exporter``."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import note

app = command_app()


@app.command()
def exporter(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Where to listen. [exporter_address, 127.0.0.1:9540]", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the fleet's figures for Prometheus."""
    from swarmq.fleet.app import require_url
    from swarmq.fleet.exporter import run_exporter
    from swarmq.logs import configure_logs
    from swarmq.settings import load_settings

    settings = load_settings()
    configure_logs(settings)
    run_exporter(
        settings, require_url(settings), address or settings.exporter_address, lambda url: note(f"serving {url}")
    )
