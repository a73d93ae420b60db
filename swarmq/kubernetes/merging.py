"""A user's YAML over a manifest, by the rules of a strategic merge where they matter for pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from swarmq.errors import OptionError

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""Lists whose entries are merged by a key, as Kubernetes itself does; all other lists are replaced."""
_ADDED = ("tolerations",)
"""But for these, whose entries are added to those that are there."""
_OWN_METADATA = ("labels", "annotations")
_PATCH = "$patch"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` wins; null removes a field, and ``$patch: delete`` an entry of a list."""
    merged = dict(base)
    for name, value in over.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        elif name in _MERGE_KEYS and isinstance(value, Sequence) and isinstance(merged.get(name), Sequence):
            merged[name] = _merge_entries(merged[name], value, _MERGE_KEYS[name])
        elif name in _ADDED and isinstance(value, Sequence):
            merged[name] = [*merged.get(name, ()), *value]
        else:
            merged[name] = value
    return merged


def _merge_entries(base: Sequence[Any], over: Sequence[Any], key: str) -> list[Any]:
    entries = {entry[key]: entry for entry in base}
    for entry in over:
        if entry.get(_PATCH) == "delete":
            entries.pop(entry[key], None)
        else:
            entries[entry[key]] = merge(entries.get(entry[key], {}), entry)
    return list(entries.values())


def read_template(path: Path | None) -> dict[str, Any]:
    """The pod of that file; OptionError where it is none. What its fields hold the API server checks."""
    if path is None:
        return {}
    try:
        template = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"pod_template: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise OptionError(f"pod_template: {path} is not YAML: {' '.join(str(error).split())}") from None
    problem = _problem(template)
    if problem:
        raise OptionError(f"pod_template: {path}: {problem}")
    return dict(template)


def _problem(template: Any) -> str | None:
    if not isinstance(template, dict):
        return "a pod is expected, with spec and metadata"
    unknown = sorted(set(template) - {"apiVersion", "kind", "metadata", "spec"})
    if unknown:
        return f"{unknown[0]}: a pod has no such field"
    if (template.get("apiVersion", "v1"), template.get("kind", "Pod")) != ("v1", "Pod"):
        return "only a Pod of apiVersion v1 can be merged"
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        return "metadata and spec hold fields"
    fixed = sorted(set(metadata) - set(_OWN_METADATA))
    if fixed:
        return f"metadata.{fixed[0]} is decided by swarmq; labels and annotations may be added"
    return next(
        filter(None, (_entries_problem(name, spec) for name in ("containers", "initContainers", "volumes"))), None
    )


def _entries_problem(where: str, parent: Mapping[str, Any]) -> str | None:
    entries = parent.get(where) or []
    if not isinstance(entries, list):
        return f"spec.{where} is a list"
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            return f"spec.{where}[{position}] needs a name, by which it is merged"
        for below in ("env", "volumeMounts", "ports"):
            key = _MERGE_KEYS[below]
            if any(not isinstance(inner, dict) or key not in inner for inner in entry.get(below) or []):
                return f"spec.{where}[{position}].{below}: each entry needs {key}, by which it is merged"
    return None
