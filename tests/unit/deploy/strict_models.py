"""Objects against the official client's own models: unknown fields, wrong types and missing ones are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from kubernetes import client as models

PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
    "datetime": (str, datetime),
    "object": (object,),
}
SCALING = "V2HorizontalPodAutoscalerBehavior"
TEXT, WHOLE, FLAG = "str", "int", "bool"

# What KEDA 2's own CRDs have, as far as it is used or could be.
KEDA: dict[str, dict[str, Any]] = {
    "ScaledObject": {
        "scaleTargetRef": {"apiVersion": TEXT, "kind": TEXT, "name": TEXT, "envSourceContainerName": TEXT},
        "pollingInterval": WHOLE,
        "cooldownPeriod": WHOLE,
        "idleReplicaCount": WHOLE,
        "minReplicaCount": WHOLE,
        "maxReplicaCount": WHOLE,
        "fallback": {"failureThreshold": WHOLE, "replicas": WHOLE},
        "advanced": {
            "restoreToOriginalReplicaCount": FLAG,
            "horizontalPodAutoscalerConfig": {"name": TEXT, "behavior": SCALING},
        },
        "triggers": [
            {
                "type": TEXT,
                "name": TEXT,
                "metricType": TEXT,
                "useCachedMetrics": FLAG,
                "metadata": "Dict[str, str]",
                "authenticationRef": {"name": TEXT, "kind": TEXT},
            }
        ],
    },
    "TriggerAuthentication": {"secretTargetRef": [{"parameter": TEXT, "name": TEXT, "key": TEXT}]},
}


def model_name(kind: str, api_version: str) -> str:
    """The client's class of an object: V1Deployment for apps/v1, V2HorizontalPodAutoscaler for autoscaling/v2."""
    return api_version.rpartition("/")[2].capitalize() + kind


def problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Nothing for an object that a server would take."""
    kind, group = manifest["kind"], manifest["apiVersion"]
    if group.startswith("keda.sh/"):
        yield from _of("V1ObjectMeta", manifest["metadata"], "metadata")
        yield from _of(KEDA[kind], manifest["spec"], "spec")
        yield from (f"{name}: unknown" for name in manifest.keys() - {"apiVersion", "kind", "metadata", "spec"})
    else:
        name = model_name(kind, group)
        yield from _of(name, manifest, kind)
        try:
            getattr(models, name).model_validate(manifest)  # required fields, enumerations
        except ValueError as error:
            yield f"{kind}: {error}"


def _of(type_: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(type_, dict):
        yield from _fields(type_, value, path)
    elif isinstance(type_, list):
        yield from _items(type_[0], value, path)
    elif inner := re.fullmatch(r"[Ll]ist\[(.+)\]", type_):
        yield from _items(inner[1], value, path)
    elif inner := re.fullmatch(r"Dict\[(\w+), (.+)\]", type_):
        for name, item in value.items():
            yield from _of(inner[2], item, f"{path}.{name}")
    elif type_ in PLAIN:
        if not isinstance(value, PLAIN[type_]) or (isinstance(value, bool) and type_ in ("int", "float")):
            yield f"{path}: {value!r} is no {type_}"
    else:
        yield from _model(getattr(models, type_), value, path)


def _items(type_: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: {value!r} is no list"
        return
    for number, item in enumerate(value):
        yield from _of(type_, item, f"{path}[{number}]")


def _fields(types: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no object"
        return
    for name, item in value.items():
        if name not in types:
            yield f"{path}.{name}: unknown"
        else:
            yield from _of(types[name], item, f"{path}.{name}")


def _model(model: Any, value: Any, path: str) -> Iterator[str]:
    json_names = model.attribute_map
    yield from _fields({json_names[name]: type_ for name, type_ in model.openapi_types.items()}, value, path)
