"""Every overlay: a server would take each object, and a reviewer each pod."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
from rendered_overlays import OVERLAYS, Object, containers, labels_match, of_kind, pod_specs, rendered
from strict_models import problems

from swarmq.fleet.app import QUEUES
from swarmq.fleet.worker import GOODBYE_SECONDS
from swarmq.kubernetes.rights import RIGHTS
from swarmq.settings import Settings
from swarmq.store import keys

AGENTS_NAMESPACE = "agents-namespace"
"""Has no process of the fleet: the pods in it are made by workers."""
ALL = [(overlay, name, labels, spec) for overlay in OVERLAYS for name, labels, spec in pod_specs(overlay)]
PODS = pytest.mark.parametrize(("overlay", "name", "labels", "spec"), ALL, ids=[f"{a}-{b}" for a, b, _, _ in ALL])
FLEETS = [overlay for overlay in OVERLAYS if overlay != AGENTS_NAMESPACE]
AGENTS_OF_PODS = "swarmq-agents"
EACH_OVERLAY = pytest.mark.parametrize("overlay", OVERLAYS)
EACH_FLEET = pytest.mark.parametrize("overlay", FLEETS)
SECRET_NAME = re.compile(r"pass|secret|token|key|auth|url", re.IGNORECASE)


@EACH_OVERLAY
def test_a_server_would_take_each_object(overlay: str) -> None:
    found = [
        f"{item['kind']} {item['metadata']['name']}: {what}" for item in rendered(overlay) for what in problems(item)
    ]
    assert found == []
    names = [(item["kind"], item["metadata"]["name"]) for item in rendered(overlay)]
    assert len(names) == len(set(names))


def test_the_check_refuses_what_a_server_would() -> None:
    (deployment, *_) = of_kind("kind", "Deployment")
    changes: list[Callable[[Object], object]] = [
        lambda spec: spec["template"]["spec"].update(restartPolicie="Always"),
        lambda spec: spec["template"]["spec"]["containers"][0].pop("name"),
        lambda spec: spec.update(replicas="2"),
        lambda spec: spec.pop("selector"),
    ]
    for change in changes:
        wrong = copy.deepcopy(deployment)
        change(wrong["spec"])
        assert list(problems(wrong))
    (scaled,) = of_kind("cluster", "ScaledObject")
    wrong = copy.deepcopy(scaled)
    wrong["spec"]["triggers"][0]["metadata"]["listLength"] = 50  # the CRD wants text
    assert list(problems(wrong))


@PODS
def test_no_process_is_root_or_can_become_it(overlay: str, name: str, labels: dict[str, str], spec: Object) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert not any("hostPath" in volume for volume in spec.get("volumes", []))
    for container in containers(spec):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")


@PODS
def test_each_container_has_limits_and_probes(overlay: str, name: str, labels: dict[str, str], spec: Object) -> None:
    for container in spec["containers"]:
        for what in ("requests", "limits"):
            assert container["resources"][what].keys() >= {"cpu", "memory", "ephemeral-storage"}
        assert {"livenessProbe", "readinessProbe"} <= container.keys()
        probe = str([container[kind] for kind in container if kind.endswith("Probe")])
        assert "celery" not in probe  # inspect ping costs a second of CPU, and asks Redis


@PODS
def test_secrets_are_references(overlay: str, name: str, labels: dict[str, str], spec: Object) -> None:
    for container in containers(spec):
        for variable in container.get("env", []):
            if SECRET_NAME.search(variable["name"]):
                assert "value" not in variable, variable["name"]
    assert not any("secret" in volume for volume in spec.get("volumes", []))  # a file would be read by agents' shells


@EACH_OVERLAY
def test_no_secret_is_among_the_objects(overlay: str) -> None:
    assert not list(of_kind(overlay, "Secret"))
    for config in of_kind(overlay, "ConfigMap"):
        assert not [name for name in config["data"] if SECRET_NAME.search(name)]


@PODS
def test_tokens_are_where_they_are_used_alone(overlay: str, name: str, labels: dict[str, str], spec: Object) -> None:
    component = labels["app.kubernetes.io/component"]
    assert spec["automountServiceAccountToken"] is (component in ("control", "pods"))
    accounts = {found["metadata"]["name"] for found in of_kind(overlay, "ServiceAccount")}
    assert spec.get("serviceAccountName") in accounts or component == "redis"


@PODS
def test_keys_of_models_are_where_models_are_called_alone(
    overlay: str, name: str, labels: dict[str, str], spec: Object
) -> None:
    """A swarm in pods is planned and summed up on the queue `pods` (fleet/dispatch.py)."""
    sources = [source for container in containers(spec) for source in container.get("envFrom", [])]
    has_keys = {"secretRef": {"name": "swarmq-models"}} in sources
    assert has_keys is (labels["app.kubernetes.io/component"] in ("agents", "pods"))


@EACH_FLEET
def test_what_the_api_grants_is_what_is_used(overlay: str) -> None:
    granted = {
        role["metadata"]["name"]: {
            (resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
        }
        for role in of_kind(overlay, "Role")
    }
    assert granted["swarmq-control"] == {("pods", "list"), ("pods", "patch")}
    assert not list(of_kind(overlay, "ClusterRole", "ClusterRoleBinding"))
    for rules in granted.values():
        assert not [pair for pair in rules if "*" in pair]


@PODS
def test_a_worker_has_time_to_hand_over(overlay: str, name: str, labels: dict[str, str], spec: Object) -> None:
    if labels["app.kubernetes.io/component"] not in QUEUES:
        return
    (config,) = of_kind(overlay, "ConfigMap")
    given_seconds = [float(config["data"][f"SWARMQ_{name}_SECONDS"]) for name in ("HANDOVER", "SHUTDOWN")]
    hand_over_seconds = sum(given_seconds) + GOODBYE_SECONDS
    assert spec["terminationGracePeriodSeconds"] >= hand_over_seconds + 10
    assert spec["shareProcessNamespace"] is True  # else nobody reaps what agents leave behind


@EACH_FLEET
def test_every_pod_is_behind_a_network_policy(overlay: str) -> None:
    policies = list(of_kind(overlay, "NetworkPolicy"))
    (default,) = [policy for policy in policies if policy["metadata"]["name"] == "swarmq-default"]
    assert default["spec"]["podSelector"] == {}
    assert set(default["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in default["spec"]
    open_to_the_web = [policy for policy in policies if "0.0.0.0/0" in str(policy["spec"].get("egress"))]
    assert all("169.254.0.0/16" in str(policy) for policy in open_to_the_web)  # the cloud's metadata, keys included


@EACH_FLEET
def test_selectors_find_their_pods(overlay: str) -> None:
    labels = {name: found for name, found, _ in pod_specs(overlay)}
    for found in of_kind(overlay, "Deployment", "StatefulSet"):
        assert labels_match(found["spec"]["selector"], labels[found["metadata"]["name"]])
    for found in of_kind(overlay, "Service"):
        assert any(labels_match({"matchLabels": found["spec"]["selector"]}, pod) for pod in labels.values())
    for found in of_kind(overlay, "PodDisruptionBudget"):
        assert [name for name, pod in labels.items() if labels_match(found["spec"]["selector"], pod)] == [
            found["metadata"]["name"]
        ]
    for found in of_kind(overlay, "RoleBinding"):
        assert found["roleRef"]["name"] in {role["metadata"]["name"] for role in of_kind(overlay, "Role")}
        assert found["subjects"][0]["namespace"] == "swarmq"


@EACH_FLEET
def test_there_are_workers_for_each_queue_and_one_beat(overlay: str) -> None:
    deployments = {found["metadata"]["name"]: found["spec"] for found in of_kind(overlay, "Deployment")}
    queues = {
        container["args"][2]
        for _, _, spec in pod_specs(overlay)
        for container in spec["containers"]
        if container["args"][0] == "worker"
    }
    assert queues <= {*QUEUES, "pods"}
    assert queues >= {"control", "integrate", "agents"}
    assert (deployments["swarmq-beat"]["replicas"], deployments["swarmq-beat"]["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("overlay", ["cluster", "cluster-hpa"])
def test_what_scales_owns_the_number_of_replicas(overlay: str) -> None:
    scalers = list(of_kind(overlay, "ScaledObject", "HorizontalPodAutoscaler"))
    assert len(scalers) == 1
    target = scalers[0]["spec"]["scaleTargetRef"]["name"]
    (deployment,) = [found for found in of_kind(overlay, "Deployment") if found["metadata"]["name"] == target]
    assert "replicas" not in deployment["spec"]  # each apply would reset it


def test_keda_counts_the_set_that_is_kept() -> None:
    (scaled,) = of_kind("cluster", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == keys.DEMAND("agents")
    (config,) = of_kind("cluster", "ConfigMap")
    assert int(trigger["metadata"]["listLength"]) <= int(config["data"]["SWARMQ_AGENTS_CONCURRENCY"])


@EACH_FLEET
def test_configuration_is_made_of_settings(overlay: str) -> None:
    (config,) = of_kind(overlay, "ConfigMap")
    given: dict[str, str] = dict(config["data"])
    for _, _, spec in pod_specs(overlay):
        for container in spec["containers"]:
            given |= {entry["name"]: "" for entry in container.get("env", []) if entry["name"].startswith("SWARMQ_")}
    assert not {name for name in given if name.removeprefix("SWARMQ_").lower() not in Settings.model_fields}


def test_workers_of_pods_may_do_what_they_do_in_a_namespace_of_their_own() -> None:
    (role,) = of_kind(AGENTS_NAMESPACE, "Role")
    granted = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {(right.resource, right.verb) for right in RIGHTS} | {("events", "list")}
    (binding,) = of_kind(AGENTS_NAMESPACE, "RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "swarmq-pods", "namespace": "swarmq"}]
    (variables,) = [
        {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
        for name, _, spec in pod_specs("cluster-pods")
        if name == "swarmq-pods"
    ]
    assert variables["SWARMQ_KUBERNETES_NAMESPACE"] == role["metadata"]["namespace"] == AGENTS_OF_PODS
    (policy,) = of_kind(AGENTS_NAMESPACE, "NetworkPolicy")
    assert policy["spec"]["podSelector"] == {}
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in policy["spec"]
    assert "6379" not in str(policy)  # no route to Redis
