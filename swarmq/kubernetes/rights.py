"""What pod mode has to be allowed, and whether it is: asked before a swarm's first model call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swarmq.errors import ClusterError
from swarmq.kubernetes.answers import Call, Refused, explain
from swarmq.kubernetes.cluster import Cluster

RIGHTS = (
    *(Call(verb, "pods") for verb in ("create", "get", "list", "watch", "delete", "deletecollection")),
    Call("get", "pods/log"),
    *(Call(verb, "secrets") for verb in ("create", "patch", "delete", "deletecollection")),
)
"""Events of a pod are read too (``list events``); without that right they are not shown."""


async def require_rights(cluster: Cluster) -> None:
    """ClusterError that names what is missing, or that the cluster does not answer. One call where nothing is."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "metadata": {"name": ""},
        "spec": {"namespace": cluster.namespace},
    }
    answer = await _review(cluster, "selfsubjectrulesreviews", review)
    rules = answer.get("status", {}).get("resourceRules") or ()
    missing = [right for right in RIGHTS if not granted(right, rules)]
    denied = [str(right) for right in missing if not await _allowed(cluster, right)]
    if denied:
        raise ClusterError(
            f"Kubernetes does not let this process do what pods need in the namespace {cluster.namespace}: its role "
            f"lacks {', '.join(denied)}"
        )


def granted(right: Call, rules: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of the rules gives it for all objects. Pure."""

    def covers(rule: Mapping[str, Any]) -> bool:
        named = rule.get("resourceNames") or ()
        wanted = (("apiGroups", ""), ("resources", right.resource), ("verbs", right.verb))
        return not named and all({value, "*"} & set(rule.get(field) or ()) for field, value in wanted)

    return any(covers(rule) for rule in rules)


async def _allowed(cluster: Cluster, right: Call) -> bool:
    """Rules need not tell all: an authorizer in front of RBAC may allow more."""
    resource, _, below = right.resource.partition("/")
    attributes = {"namespace": cluster.namespace, "verb": right.verb, "resource": resource, "subresource": below}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {"name": ""},
        "spec": {"resourceAttributes": {name: value for name, value in attributes.items() if value}},
    }
    answer = await _review(cluster, "selfsubjectaccessreviews", review)
    return bool(answer.get("status", {}).get("allowed"))


async def _review(cluster: Cluster, resource: str, review: dict[str, Any]) -> dict[str, Any]:
    try:
        return await cluster.create(resource, review)
    except Refused as refused:
        raise ClusterError(str(explain(refused, cluster.namespace))) from None
