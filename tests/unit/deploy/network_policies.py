"""What NetworkPolicies let through, as a cluster that enforces them would decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from rendered_overlays import Object, labels_match


@dataclass(frozen=True)
class Pod:
    name: str
    namespace: str
    labels: dict[str, str]


Peer = Pod | str
"""A pod, or an address that is none of a pod."""


def reaches(policies: Sequence[Object], source: Pod, target: Peer, port: int) -> bool:
    """Whether a TCP connection comes about: the source's policies let it out, and the target's let it in."""
    let_in = isinstance(target, str) or _allows(policies, target, "Ingress", source, port)
    return let_in and _allows(policies, source, "Egress", target, port)


def pod_selectors(policy: Object) -> Iterator[tuple[str, Object]]:
    """Each selector of pods of the policy's own namespace, with the place that it is at."""
    yield "podSelector", policy["spec"]["podSelector"]
    for direction, end in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, ()):
            for peer in rule.get(end, ()):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield f"{direction}.{end}", peer["podSelector"]


def _allows(policies: Iterable[Object], pod: Pod, direction: str, other: Peer, port: int) -> bool:
    """Where no policy selects the pod, everything; else what any of them names."""
    own = [policy for policy in policies if _is_about(policy, pod) and direction in policy["spec"]["policyTypes"]]
    rules = [(policy, rule) for policy in own for rule in policy["spec"].get(direction.lower(), ())]
    end = "to" if direction == "Egress" else "from"
    return not own or any(_names(policy, rule, end, other, port) for policy, rule in rules)


def _is_about(policy: Object, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and labels_match(policy["spec"]["podSelector"], pod.labels)


def _names(policy: Object, rule: Object, end: str, other: Peer, port: int) -> bool:
    ports = "ports" not in rule or any((entry["protocol"], entry["port"]) == ("TCP", port) for entry in rule["ports"])
    return ports and (end not in rule or any(_is(policy, peer, other) for peer in rule[end]))


def _is(policy: Object, peer: Object, other: Peer) -> bool:
    if isinstance(other, str):
        block: Object = peer.get("ipBlock", {"cidr": "0.0.0.0/32"})
        address = ip_address(other)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(hole) for hole in block.get("except", ())
        )
    if "ipBlock" in peer:  # of addresses outside of the cluster: what they do with pods, each network decides
        return False
    there = {"kubernetes.io/metadata.name": other.namespace}
    here = other.namespace == policy["metadata"]["namespace"]
    near = labels_match(peer["namespaceSelector"], there) if "namespaceSelector" in peer else here
    return near and labels_match(peer.get("podSelector", {}), other.labels)
