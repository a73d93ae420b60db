"""``swarmq config show`` and ``path``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, pairs, table, write
from swarmq.cli.session import AsJson

app = command_app()
config = command_app(help="Show the settings and where they come from.", no_args_is_help=True)
app.add_typer(config, name="config")


@config.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print all settings. Secrets are masked."""
    from swarmq.settings import load_settings, origins

    values = load_settings().model_dump(mode="json")  # SecretStr masks itself here
    sources = origins()
    if as_json:
        emit_json({name: {"value": values[name], "origin": sources[name]} for name in values} if origin else values)
    elif origin:
        rows = [(name, _text(value), sources[name]) for name, value in values.items()]
        table(("setting", "value", "origin"), rows, least={"value": 12, "origin": 12})
    else:
        pairs([(name, _text(value)) for name, value in values.items()])


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


@config.command()
def path(as_json: AsJson = False) -> None:
    """Print the files that settings are read from, strongest first."""
    from swarmq.settings_sources import user_file

    files = [Path(name).absolute() for name in (".env", "swarmq.toml", "pyproject.toml")]
    files += [file for file in [user_file()] if file is not None]
    if as_json:
        emit_json([{"path": str(file), "exists": file.is_file()} for file in files])
        return
    for file in files:
        write(f"{file}{'' if file.is_file() else '  (not there)'}")
