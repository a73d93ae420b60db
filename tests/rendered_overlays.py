"""The overlays as ``kubectl kustomize`` renders them, once each."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
RENDER_SECONDS = 120  # kubectl may have to be fetched first

Object = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> tuple[Object, ...]:
    command = [shutil.which("kubectl") or str(ROOT / "scripts" / "kubectl"), "kustomize", f"overlays/{overlay}"]
    done = subprocess.run(command, cwd=KUBERNETES, capture_output=True, text=True, timeout=RENDER_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> Iterator[Object]:
    return (found for found in rendered(overlay) if found["kind"] in kinds)


def pod_specs(overlay: str) -> Iterator[tuple[str, Object, Object]]:
    """Name, labels and spec of each pod template."""
    for found in of_kind(overlay, "Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet"):
        template = found["spec"]["template"]
        yield found["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def labels_match(selector: Object, labels: dict[str, str]) -> bool:
    pairs: dict[str, str] = selector.get("matchLabels", {})
    rules: list[Object] = selector.get("matchExpressions", [])
    assert {rule["operator"] for rule in rules} <= {"In"}
    wanted = all(labels.get(name) == value for name, value in pairs.items())
    return wanted and all(labels.get(rule["key"]) in rule["values"] for rule in rules)
