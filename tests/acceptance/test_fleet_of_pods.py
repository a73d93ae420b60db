"""A fleet as pods: the Deployments that deploy/ renders, run by an API server and a kubelet, while some of them die."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fleet_stack import FleetStack, running_fleet, until
from kubernetes_double import KubernetesDouble, Rights
from parts import MATCH, assert_done_once, begin, part_conversation, parts
from rendered_overlays import of_kind

from swarmq import Client
from swarmq.kubernetes.worker_pods import DELETION_COST, pod_of
from swarmq.models.branch import BranchState
from swarmq.testing import Script

OVERLAY = "kind"
AGENTS, SLOTS, TURNS = 20, 2, 4
BRANCHES = AGENTS * SLOTS
SOON_SECONDS = 50
LEASE_SECONDS = 90
"""So long that a branch can only be given to others because its pod is known to have died."""
SECRET = "sk-fleet-must-not-leak"
SCRIPT = {"latency_ms": 1200, "conversations": [part_conversation(TURNS)]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesDouble]:
    (role,) = of_kind(OVERLAY, "Role")
    double = KubernetesDouble.start(tmp_path_factory.mktemp("cluster"), Rights.from_role(role))
    yield double
    double.close()


@pytest.fixture(scope="module")
def fleet(cluster: KubernetesDouble) -> Iterator[FleetStack]:
    """All of its processes are pods but Redis."""
    with running_fleet(start=False, script=Script.model_validate(SCRIPT)) as running:
        image = {"HOME": "/home/swarmq", "SWARMQ_STATE_DIR": "/var/lib/swarmq", "SWARMQ_RUNTIME_DIR": "/run/swarmq"}
        quick = {name: value for name, value in running.environment.items() if name.endswith("_SECONDS")}
        endpoints = {name: value for name, value in running.environment.items() if "ENDPOINTS" in name}
        cluster.image_env |= {**image, "SWARMQ_PROBE_DIR": "/run/swarmq/probes", "SWARMQ_MODEL": "test:scripted"}
        cluster.image_env |= {**quick, **endpoints, "SWARMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
        redis, models = _secret("swarmq-redis", url=running.url), _secret("swarmq-models", TEST_ONLY_API_KEY=SECRET)
        cluster.apply([redis, models, *_objects(cluster)])
        until(lambda: len(_ready(cluster)) == AGENTS + 3 or None, "all pods ready", 120)
        yield running


def _secret(name: str, **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _objects(cluster: KubernetesDouble) -> Iterator[dict[str, Any]]:
    """What the overlay renders, in this size."""
    yield from of_kind(OVERLAY, "ServiceAccount", "PersistentVolumeClaim")
    for found in of_kind(OVERLAY, "ConfigMap"):
        yield found | {"data": found["data"] | {"SWARMQ_AGENTS_CONCURRENCY": str(SLOTS)}}
    for found in of_kind(OVERLAY, "Deployment"):
        part = found["metadata"]["labels"]["app.kubernetes.io/component"]
        if part not in ("agents", "control", "integrate", "beat"):
            continue
        found = yaml.safe_load(yaml.safe_dump(found))
        found["spec"]["replicas"] = AGENTS if part == "agents" else 1
        if part == "control":  # in a cluster it has a token, at a path that this machine has not
            variable = {"name": "SWARMQ_KUBECONFIG", "value": str(cluster.kubeconfig)}
            found["spec"]["template"]["spec"]["containers"][0]["env"].append(variable)
        yield found


def _ready(cluster: KubernetesDouble) -> list[str]:
    statuses = {pod["metadata"]["name"]: pod["status"].get("containerStatuses") for pod in cluster.objects("pods")}
    return [name for name, found in statuses.items() if found and all(status["ready"] for status in found)]


def _deletion_costs(cluster: KubernetesDouble) -> list[str]:
    """Pods that are to be removed last."""
    pods = [pod["metadata"] for pod in cluster.objects("pods")]
    return [pod["name"] for pod in pods if int(pod.get("annotations", {}).get(DELETION_COST, "0")) > 0]


def test_forty_branches_on_twenty_pods_of_which_some_die(fleet: FleetStack, cluster: KubernetesDouble) -> None:
    """One runs out of memory, one vanishes, one is drained; branches go on elsewhere long before their leases end."""
    repo = fleet.repository("parts")
    swarm_id = begin(fleet, repo, parts(BRANCHES))
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.get(swarm_id)

        def holders() -> list[str]:
            """Pods whose branches have an answer recorded, those first that have most of their work before them."""
            running = [branch for branch in handle.branches() if branch.state is BranchState.RUNNING]
            told = {branch.worker: len(handle.transcript(branch.spec.id)) for branch in running}
            at_work = sorted((worker for worker in told if told[worker] > 1), key=lambda worker: told[worker])
            return list(dict.fromkeys(found[0] for worker in at_work if (found := pod_of(worker))))

        out_of_memory, vanished, drained = until(lambda: found if len(found := holders()) >= 3 else None, "work")[:3]
        cluster.kill_pod(out_of_memory, "OOMKilled")
        cluster.delete(vanished)
        cluster.delete(drained, at_once=False)
        costs = until(lambda: _deletion_costs(cluster), "busy pods to be dearer")
        assert set(costs) <= set(_ready(cluster)) | {out_of_memory, vanished, drained}
        result = handle.result(SOON_SECONDS)
        assert_done_once(result, handle, repo, BRANCHES, TURNS)
        assert 2 <= result.stats.lost_leases <= 2 * SLOTS, "of the two pods that died, and not of the drained one"
        assert fleet.requests(MATCH) <= BRANCHES * TURNS + 3 * SLOTS
        assert SECRET not in json.dumps(cluster.objects("pods"))
