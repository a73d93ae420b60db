"""What a real API server refuses in a Pod or a Secret, with ``fieldValidation=Strict``.

Fields and their types are those of the official client's models; the rest is the part of the server's validation that
concerns what swarmq sends.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from kubernetes.aio.client import models
from pydantic import ValidationError

Json = dict[str, Any]
KINDS = {"pods": ("Pod", "V1Pod"), "secrets": ("Secret", "V1Secret")}
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
MAX_SECRET_BYTES = 1 << 20


def unknown_fields(kind: str, manifest: Any, path: str = "") -> Iterator[str]:
    """``strict decoding error`` for each field that the model has not."""
    model = getattr(models, kind)
    known = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    if not isinstance(manifest, dict):
        return
    for name, value in manifest.items():
        where = f"{path}.{name}" if path else name
        if name not in known:
            yield f'unknown field "{where}"'
            continue
        yield from _below(known[name], value, where)


def _below(type_name: str, value: Any, path: str) -> Iterator[str]:
    inner = re.fullmatch(r"(?:List|list)\[(\w+)\]", type_name)
    if inner and isinstance(value, list):
        for position, entry in enumerate(value):
            yield from _below(inner[1], entry, f"{path}[{position}]")
    elif type_name.startswith(("V1", "V2")) and hasattr(models, type_name):
        yield from unknown_fields(type_name, value, path)


def problems(resource: str, manifest: Json) -> list[str]:
    """All that is wrong with it, in the server's way of speaking; the first ones are those of decoding."""
    kind, model = KINDS[resource]
    found = list(unknown_fields(model, manifest))
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("v1", kind):
        found.append(f"apiVersion v1 and kind {kind} are expected")
    try:
        getattr(models, model).model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        found.append(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return found
    found += _metadata_problems(manifest.get("metadata") or {})
    found += _pod_problems(manifest["spec"]) if resource == "pods" else _secret_problems(manifest)
    return found


def _metadata_problems(metadata: Json) -> Iterator[str]:
    if not DNS_SUBDOMAIN.fullmatch(str(metadata.get("name"))):
        yield f'metadata.name: Invalid value: "{metadata.get("name")}"'
    for name, value in (metadata.get("labels") or {}).items():
        if not LABEL_NAME.fullmatch(name) or not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            yield f'metadata.labels: Invalid value: "{name}={value}"'
    for name, value in (metadata.get("annotations") or {}).items():
        if not LABEL_NAME.fullmatch(name) or not isinstance(value, str):
            yield f'metadata.annotations: Invalid value: "{name}"'


def _secret_problems(secret: Json) -> Iterator[str]:
    total = 0
    for name, value in (secret.get("data") or {}).items():
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", name):
            yield f'data: Invalid value: "{name}"'
        try:
            total += len(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            yield f"data.{name}: illegal base64 data"
    if total > MAX_SECRET_BYTES:
        yield f"data: Too long: may not be more than {MAX_SECRET_BYTES} bytes"


def _pod_problems(spec: Json) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes") or ()]
    yield from _names("spec.volumes", volumes)
    for volume in spec.get("volumes") or ():
        if len(volume) != 2:
            yield f"spec.volumes[{volume['name']}]: exactly one volume type is required"
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    if not spec.get("containers"):
        yield "spec.containers: Required value"
    yield from _names("spec.containers", [container["name"] for container in containers])
    for container in containers:
        yield from _container_problems(container, volumes)
    if spec.get("restartPolicy") not in (None, "Always", "OnFailure", "Never"):
        yield f'spec.restartPolicy: Unsupported value: "{spec["restartPolicy"]}"'
    if not 1 <= spec.get("activeDeadlineSeconds", 1) < 1 << 31:
        yield "spec.activeDeadlineSeconds: must be between 1 and 2147483647"
    for toleration in spec.get("tolerations") or ():
        if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
            yield "spec.tolerations: effect must be NoExecute where tolerationSeconds is set"


def _container_problems(container: Json, volumes: list[str]) -> Iterator[str]:
    where = f"spec.containers[{container['name']}]"
    if not container.get("image"):
        yield f"{where}.image: Required value"
    paths = [mount["mountPath"] for mount in container.get("volumeMounts") or ()]
    for path in {path for path in paths if paths.count(path) > 1}:
        yield f'{where}.volumeMounts: Invalid value: "{path}": must be unique'
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in volumes:
            yield f'{where}.volumeMounts: Not found: "{mount["name"]}"'
    resources = container.get("resources") or {}
    for group in ("requests", "limits"):
        for name, quantity in (resources.get(group) or {}).items():
            if not QUANTITY.fullmatch(str(quantity)):
                yield f'{where}.resources.{group}: quantity of {name}: "{quantity}"'


def _names(where: str, found: list[str]) -> Iterator[str]:
    for name in found:
        if not DNS_LABEL.fullmatch(name):
            yield f'{where}.name: Invalid value: "{name}"'
        if found.count(name) > 1:
            yield f'{where}.name: Duplicate value: "{name}"'
