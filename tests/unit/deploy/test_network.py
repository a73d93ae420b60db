"""Who reaches whom by the overlays' network policies. A network without policies would hide each mistake in them."""

from __future__ import annotations

import pytest
from network_policies import Peer, Pod, pod_selectors, reaches
from rendered_overlays import OVERLAYS, Object, labels_match, of_kind, pod_specs

from swarmq.kubernetes.podspec import PodDefaults, PodRequest, pod_manifest

COMPONENT = "app.kubernetes.io/component"
AGENTS_NAMESPACE = "agents-namespace"
FLEETS = [overlay for overlay in OVERLAYS if overlay != AGENTS_NAMESPACE]
EACH_FLEET = pytest.mark.parametrize("overlay", FLEETS)
WEB, METADATA = "93.184.215.14", "169.254.169.254"
MANAGED_REDIS, MODEL_INSIDE, API_SERVER = "10.20.30.40", "192.168.7.7", "172.18.0.2"


def policies(overlay: str) -> list[Object]:
    return list(of_kind(overlay, "NetworkPolicy"))


def pods(overlay: str) -> list[Pod]:
    return [Pod(name, "swarmq", labels) for name, labels, _ in pod_specs(overlay)]


def agents_pod() -> Pod:
    """One of a single branch, as a worker of the queue `pods` makes it."""
    request = PodRequest("k3x9qm2p4t", "tax", "tax", 0, 1, b"", 600, "0" * 32)
    made = pod_manifest(request, PodDefaults("swarmq-agent", {}), "abcd1234", "2026-11-26")
    return Pod(made["metadata"]["name"], "swarmq-agents", made["metadata"]["labels"])


def redis_of(overlay: str) -> Peer:
    """The pod of its own, where the overlay has one, else an address in the network that it names."""
    return next((pod for pod in pods(overlay) if pod.labels[COMPONENT] == "redis"), MANAGED_REDIS)


def needing(overlay: str, variable: str) -> set[str]:
    return {
        name
        for name, _, spec in pod_specs(overlay)
        for container in spec["containers"]
        if variable in {entry["name"] for entry in container.get("env", [])}
    }


def those_that_reach(overlay: str, target: Peer, port: int) -> set[str]:
    return {pod.name for pod in pods(overlay) if reaches(policies(overlay), pod, target, port) and pod != target}


@EACH_FLEET
def test_each_policy_selects_pods_that_there_are(overlay: str) -> None:
    for policy in policies(overlay):
        for place, selector in pod_selectors(policy):
            found = [pod.name for pod in pods(overlay) if labels_match(selector, pod.labels)]
            assert found, f"{policy['metadata']['name']} {place}"


@EACH_FLEET
def test_whoever_has_the_address_of_redis_reaches_it(overlay: str) -> None:
    needed = needing(overlay, "SWARMQ_REDIS_URL")
    assert needed >= {"swarmq-agents", "swarmq-control", "swarmq-integrate", "swarmq-beat", "swarmq-exporter"}
    assert those_that_reach(overlay, redis_of(overlay), 6379) == needed


def test_redis_of_its_own_admits_keda_and_nobody_else() -> None:
    redis = redis_of("kind")
    assert reaches(policies("kind"), Pod("keda-operator", "keda", {}), redis, 6379)
    assert not reaches(policies("kind"), Pod("other", "default", {"app.kubernetes.io/name": "swarmq"}), redis, 6379)
    assert not reaches(policies("kind"), agents_pod(), redis, 6379)


@EACH_FLEET
def test_the_web_is_open_to_agents_and_merges_and_no_private_network_is(overlay: str) -> None:
    (web,) = [policy for policy in policies(overlay) if policy["metadata"]["name"] == "swarmq-web"]
    named = {pod.name for pod in pods(overlay) if labels_match(web["spec"]["podSelector"], pod.labels)}
    calls_models = {"swarmq-agents", "swarmq-pods"} & {pod.name for pod in pods(overlay)}
    assert named == {*calls_models, "swarmq-integrate"}
    assert those_that_reach(overlay, WEB, 443) >= named
    assert those_that_reach(overlay, WEB, 80) == set()
    for port in (80, 443):
        assert those_that_reach(overlay, METADATA, port) == set()
    assert not {"swarmq-agents", "swarmq-integrate"} & those_that_reach(overlay, MODEL_INSIDE, 443)


@EACH_FLEET
def test_those_with_a_token_reach_the_api_and_nobody_else_does(overlay: str) -> None:
    with_token = {name for name, _, spec in pod_specs(overlay) if spec["automountServiceAccountToken"]}
    ports = {443, 6443, 8443} if overlay == "kind" else {443, 6443}  # 8443: minikube's
    for port in ports:
        assert those_that_reach(overlay, API_SERVER, port) == with_token


@EACH_FLEET
def test_monitoring_scrapes_the_exporter_alone(overlay: str) -> None:
    scraper = Pod("prometheus", "monitoring", {})
    scraped = {pod.name for pod in pods(overlay) if reaches(policies(overlay), scraper, pod, 9540)}
    assert scraped == {"swarmq-exporter"}


@EACH_FLEET
def test_every_process_resolves_names(overlay: str) -> None:
    dns = Pod("coredns", "kube-system", {"k8s-app": "kube-dns"})
    assert those_that_reach(overlay, dns, 53) == {pod.name for pod in pods(overlay)}


def test_a_pod_of_a_single_branch_reaches_the_web_and_nothing_of_the_fleet() -> None:
    pod, rules = agents_pod(), [*policies(AGENTS_NAMESPACE), *policies("kind")]
    assert reaches(rules, pod, WEB, 443)
    for target, port in ((METADATA, 443), (MODEL_INSIDE, 443), (API_SERVER, 6443), (MANAGED_REDIS, 6379)):
        assert not reaches(rules, pod, target, port)
    for other in [*pods("kind"), agents_pod()]:
        assert not any(reaches(rules, pod, other, port) for port in (443, 5555, 6379, 9540))
        assert not reaches(rules, other, pod, 443)


def test_a_pod_of_a_single_branch_is_taken_for_no_process_of_the_fleet() -> None:
    """Also where it is made in the fleet's own namespace (no ``kubernetes_namespace``)."""
    pod = Pod("branch", "swarmq", agents_pod().labels)
    assert not reaches(policies("kind"), pod, redis_of("kind"), 6379)
    assert not reaches(policies("cluster-pods"), pod, API_SERVER, 6443)
    for overlay in FLEETS:
        for found in of_kind(overlay, "Deployment", "StatefulSet"):
            assert not labels_match(found["spec"]["selector"], pod.labels)
