"""Fleet mode against an API server: what the role of the control workers grants is what it takes, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_double import KubernetesDouble, Rights
from pods_bench import IMPATIENT, until

from swarmq.kubernetes.cluster import Cluster
from swarmq.kubernetes.names import BRANCH
from swarmq.kubernetes.worker_pods import DELETION_COST, WorkerPods, deletion_cost, host_of
from swarmq.settings import load_settings

ACCOUNTS = Path(__file__).parents[3] / "deploy" / "kubernetes" / "base" / "accounts.yaml"


def control_role() -> dict[str, Any]:
    objects = list(yaml.safe_load_all(ACCOUNTS.read_text()))
    (role,) = [found for found in objects if found["kind"] == "Role" and found["metadata"]["name"] == "swarmq-control"]
    return dict(role)


@pytest.fixture
def worker_cluster(tmp_path: Path) -> Iterator[KubernetesDouble]:
    """Two agents workers' pods, which sleep."""
    double = KubernetesDouble.start(tmp_path / "workers", Rights.from_role(control_role()))
    for name in ("busy", "doomed"):
        container = {"name": "swarmq", "image": "swarmq:1", "command": ["sleep", "600"]}
        labels = {"app.kubernetes.io/name": "swarmq", "app.kubernetes.io/component": "agents"}
        metadata = {"name": name, "labels": labels, "annotations": {BRANCH: name}}
        spec = {"containers": [container], "restartPolicy": "Never", "volumes": [{"name": "tmp", "emptyDir": {}}]}
        pod = {"metadata": metadata, "spec": spec}
        double.do(double.state.create("pods", pod))
    yield double
    double.close()


async def test_a_tick_costs_one_list_and_a_patch_for_each_change(worker_cluster: KubernetesDouble) -> None:
    double, granted = worker_cluster, Rights.from_role(control_role()).granted
    cluster = await Cluster.open(load_settings(kubeconfig=double.kubeconfig), IMPATIENT)

    async def connect() -> Cluster:
        return cluster

    now = [0.0]
    pods = WorkerPods(connect, lambda: now[0])
    busy, doomed, gone = (f"agents-7@{host_of(name, cluster.namespace)}" for name in ("busy", "doomed", "gone"))
    await until(lambda: len(double.processes()) == 2)

    health = await pods.health_of([busy, doomed])
    assert {worker for worker, found in health.items() if not found.dead} == {busy, doomed}
    assert await pods.show_busy({busy: 12, doomed: 0}) == 1
    assert dict(cluster.calls) == {"list pods": 1, "patch pods": 1}

    double.kill("doomed", "OOMKilled")
    await until(lambda: len(double.processes()) == 1)
    await until(lambda: (double.pod("doomed") or {})["status"]["phase"] == "Failed")
    now[0] += 5
    health = await pods.health_of([busy, doomed, gone])
    assert (health[doomed].score, health[doomed].signals, health[doomed].dead) == (0.0, 3, True)
    assert (health[gone].score, health[gone].dead) == (0.2, True)
    assert not health[busy].dead
    annotations = (double.pod("busy") or {})["metadata"]["annotations"]
    assert annotations[DELETION_COST] == str(deletion_cost(12))
    assert double.rights.used == granted
    await pods.aclose()


async def test_without_rights_nothing_is_judged(tmp_path: Path) -> None:
    double = KubernetesDouble.start(tmp_path / "closed", Rights.of())
    try:
        settings = load_settings(kubeconfig=double.kubeconfig)
        pods = WorkerPods(lambda: Cluster.open(settings, IMPATIENT))
        assert await pods.health_of([f"agents-7@{host_of('any', 'swarms')}"]) == {}
        assert await pods.show_busy({f"agents-7@{host_of('any', 'swarms')}": 3}) == 0
        assert sum(double.counted().values()) == 1  # and does not ask again at once
        await pods.aclose()
    finally:
        double.close()
