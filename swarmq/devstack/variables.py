"""The environment that the workers need of a client: its settings, its endpoints, its keys.

Workers do not run in the client's directory, with its ``swarmq.toml`` and ``.env``, and may have been started by a
client that had no key yet; so a client that submits work brings what its own models need. One that only reads brings
nothing: new variables mean new workers, which nobody expects of a look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from swarmq.devstack.layout import Layout

if TYPE_CHECKING:
    from swarmq.settings import Settings

ENDPOINTS = "SWARMQ_ENDPOINTS"
HANDOVER_SECONDS = 3.0
"""Whoever types ``swarmq down`` waits for as long, and so does a client that brings a new key."""


def client_variables(settings: Settings) -> dict[str, str]:
    """What a client's models need: its endpoints, and the keys that they and the built-in ones name."""
    variables = {}
    if settings.endpoints:
        dumped = {name: endpoint.model_dump(mode="json") for name, endpoint in settings.endpoints.items()}
        variables[ENDPOINTS] = json.dumps(dumped, sort_keys=True)
    for name in settings.endpoint_names():
        endpoint = settings.endpoint(name)
        if endpoint and endpoint.api_key_env and (key := settings.secret(endpoint.api_key_env)):
            variables[endpoint.api_key_env] = key
    return variables


def handover_seconds(settings: Settings) -> float:
    """How long the embedded workers wait for tool calls when they stop: shorter than others, unless it was chosen."""
    return settings.handover_seconds if "handover_seconds" in settings.model_fields_set else HANDOVER_SECONDS


def worker_variables(settings: Settings, layout: Layout) -> dict[str, str]:
    """All of that, and the starting client's settings where they differ from the defaults."""
    chosen = settings.model_dump(
        mode="json", exclude_defaults=True, exclude={"redis_url", "redis_url_file", "endpoints"}
    )
    values = chosen | {
        "state_dir": str(layout.state_dir),
        "runtime_dir": str(layout.runtime_dir),
        "redis_url_file": str(layout.url_file),
        "handover_seconds": handover_seconds(settings),
    }
    variables = {
        f"SWARMQ_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
    return variables | client_variables(settings)


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """``old`` with a later client's variables: its keys, and its endpoints beside the ones known already."""
    result = {**old, **new}
    if ENDPOINTS in old and ENDPOINTS in new:
        endpoints = {**json.loads(old[ENDPOINTS]), **json.loads(new[ENDPOINTS])}
        result[ENDPOINTS] = json.dumps(endpoints, sort_keys=True)
    return result


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The names, never the values, of the variables that differ in ``new``."""
    return sorted(name for name, value in new.items() if old.get(name) != value)
