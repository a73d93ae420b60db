"""Pods end to end, as far as that goes without a cluster: the command line, workers and agents as processes, and an API
server with a kubelet in between."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest
from fleet_stack import FleetStack, git, running_fleet, until
from kubernetes_double import KubernetesDouble, Rights
from parts import MATCH, assert_done_once, begin, part_conversation, parts

from swarmq import Client
from swarmq.kubernetes.names import pod_name
from swarmq.kubernetes.rights import RIGHTS
from swarmq.models.branch import BranchState
from swarmq.models.events import EventType
from swarmq.testing import Script

PODS = 20
TURNS = 3
SECRET = "sk-pods-must-not-leak"
SIDE = "name=${SWARMQ_BRANCH##*/}; echo ${name%-*} > shared.txt"
SCRIPT = {
    "latency_ms": 200,
    "conversations": [
        {
            "match": "The works of two agents conflict",
            "turns": [
                {"tool_calls": [{"name": "bash", "arguments": {"command": "sed -i '/^|||/,/^===/d' shared.txt"}}]},
                {"tool_calls": [{"name": "bash", "arguments": {"command": "sleep 600"}}]},
                {"tool_calls": [{"name": "bash", "arguments": {"command": "sed -i '/^[<>]/d' shared.txt"}}]},
                {"text": "Both are kept."},
            ],
        },
        {
            "match": "Put yourself into it",
            "turns": [
                {"tool_calls": [{"name": "bash", "arguments": {"command": SIDE}}]},
                {"text": "I am in it."},
            ],
        },
        part_conversation(TURNS),
    ],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesDouble]:
    rights = Rights({(right.verb, right.resource) for right in RIGHTS} | {("list", "events")})
    double = KubernetesDouble.start(tmp_path_factory.mktemp("cluster"), rights)
    yield double
    double.close()


@pytest.fixture(scope="module")
def fleet(cluster: KubernetesDouble) -> Iterator[FleetStack]:
    variables = {
        "SWARMQ_KUBECONFIG": str(cluster.kubeconfig),
        "SWARMQ_POD_IMAGE": "registry.example/swarmq:test",
        "SWARMQ_POD_BUDGET": "10",
        "SWARMQ_ENDPOINTS__TEST__API_KEY_ENV": "POD_MODEL_KEY",
        "POD_MODEL_KEY": SECRET,
    }
    with running_fleet(start=False, script=Script.model_validate(SCRIPT), **variables) as running:
        for queue in ("control", "integrate"):
            running.start_worker(queue)
        for name in ("pods-1", "pods-2"):
            running.start_worker("pods", name)
        running.start("beat", "beat")
        for name in ("control", "integrate", "pods-1", "pods-2"):
            running.await_worker(name)
        yield running


def test_twenty_branches_in_pods_through_faults_on_all_sides(fleet: FleetStack, cluster: KubernetesDouble) -> None:
    """A supervisor is killed, a pod deleted, and the API server away, while their agents work."""
    repo = fleet.repository("pods")
    swarm_id = begin(fleet, repo, parts(PODS), "--placement", "pod")
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.get(swarm_id)

        def working() -> list[str]:
            """Branches whose agents have answers recorded, those first that have most of their work before them."""
            running = [branch.spec.id for branch in handle.branches() if branch.state is BranchState.RUNNING]
            told = {branch: len(handle.transcript(branch)) for branch in running if cluster.pod(branch) is not None}
            return sorted((branch for branch in told if told[branch] > 2), key=lambda branch: told[branch])

        begun = until(lambda: found if len(found := working()) >= 3 else None, "agents at work", 60)
        manifests = json.dumps(cluster.objects("pods"))
        cluster.delete_pod(begun[0])
        fleet.kill("pods-1", signal.SIGKILL)
        cluster.go_away()
        fleet.start_worker("pods", "pods-3")
        away_until = time.monotonic() + 2
        until(lambda: time.monotonic() > away_until or None, "the API server's absence")
        cluster.come_back()
        result = handle.result(120)
        assert_done_once(result, handle, repo, PODS, TURNS)
        for branch in handle.branches():
            steps = [event for event in handle.events() if event.branch == branch.spec.id]
            assert sum(event.type is EventType.BRANCH_STEP for event in steps) == TURNS
        assert result.stats.lost_leases > 0
        assert fleet.requests(MATCH) <= PODS * TURNS + 2
        assert until(lambda: not cluster.objects("pods") or None, "the pods' removal")
        assert cluster.objects("secrets") == []
        created = cluster.counted()["create pods"]
        assert created <= PODS + 4, "most pods of the killed supervisor were adopted"
        assert SECRET not in manifests
        shown = json.loads(fleet.run_cli("show", handle.id, begun[0], "--json").stdout)["pod"]
        assert (shown["name"], shown["node"]) == (pod_name(handle.id, begun[0]), "node-1")
        assert "runs on node-1" in [line["notice"] for line in shown["notices"]]
        assert MATCH not in manifests
        assert_no_secret_is_told(fleet)


def assert_no_secret_is_told(fleet: FleetStack) -> None:
    """The key was in the Secrets alone: in no log, no record and no message."""
    for file in (*fleet.root.glob("*.log"), *fleet.root.glob("appendonlydir/*")):
        assert SECRET.encode() not in file.read_bytes(), file


def test_a_conflict_is_resolved_in_a_pod_that_is_deleted_half_way(fleet: FleetStack, cluster: KubernetesDouble) -> None:
    repo, resolver = fleet.repository("conflict"), "right.r1"
    swarm_id = begin(
        fleet, repo, {side: f"Put yourself into it, {side}" for side in ("left", "right")}, "--placement", "pod"
    )
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.get(swarm_id)

        def half_way() -> bool:
            """Its second call is under way, which ends with the pod alone."""
            known = any(branch.spec.id == resolver for branch in handle.branches())
            return known and sum(entry.usage is not None for entry in handle.transcript(resolver)) == 2

        until(lambda: half_way() or None, "the resolver at work", 60)
        cluster.delete_pod(resolver)
        result = handle.result(60)
        assert result.success, result.report
        assert git(repo, "show", f"{result.branch}:shared.txt") == "left\nright\n"
        answers = [entry.step for entry in handle.transcript(resolver) if entry.usage is not None]
        assert answers == [1, 2, 3, 4]
        assert [subtask.resolved_by for subtask in result.subtasks] == [None, resolver]
    history = git(repo, "log", "--format=%s", str(result.branch))
    assert "right: Resolve the conflict of right" in history


def test_a_cluster_that_says_no_ends_the_swarm_before_the_first_call(
    fleet: FleetStack, cluster: KubernetesDouble
) -> None:
    assert cluster.rights.granted is not None
    cluster.rights.granted.discard(("create", "pods"))
    called = fleet.requests(MATCH)
    repo = fleet.repository("refused")
    done = fleet.run_cli("run", "Do your part", "--repo", str(repo), "--placement", "pod", "--yes", "--json")
    assert done.returncode == 1, done.stderr
    assert "create pods" in json.loads(done.stdout)["error"]
    assert fleet.requests(MATCH) == called
    cluster.rights.granted.add(("create", "pods"))
