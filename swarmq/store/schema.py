"""What a shared result looks like, told from its value: enough for an agent to decide whether to fetch it. Pure."""

from __future__ import annotations

from typing import Any

MAX_FIELDS = 100
_NAMES = {int: "integer", float: "number", str: "string", dict: "object", list: "array", tuple: "array"}


def infer_schema(value: Any) -> dict[str, Any]:
    """``{"type": …}``, with ``fields`` (name -> type) of an object and ``items`` (types) of an array."""
    kind = json_type(value)
    if isinstance(value, dict):
        return {"type": kind, "fields": {name: json_type(item) for name, item in list(value.items())[:MAX_FIELDS]}}
    if isinstance(value, list | tuple):
        return {"type": kind, "items": sorted({json_type(item) for item in value})}
    return {"type": kind}


def json_type(value: Any) -> str:
    """JSON schema's name for the type of a JSON value. TypeError for anything else."""
    if value is None:
        return "null"
    if isinstance(value, bool):  # before int, of which it is one
        return "boolean"
    for kind, name in _NAMES.items():
        if isinstance(value, kind):
            return name
    raise TypeError(f"{type(value).__name__} is no JSON value")
