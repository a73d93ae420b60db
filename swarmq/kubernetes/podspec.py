"""The pod and the Secret of a branch, as they are sent to the API. Pure.

The pod is one that a cluster with the Pod Security Standard "restricted" admits: not root, no token of a service
account, no capabilities, a root that cannot be written. An init container copies the payload out of the Secret into
memory, where the agent unlinks it: a mounted Secret would stay readable for the commands that the agent runs.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmq.errors import PodError
from swarmq.kubernetes import names
from swarmq.kubernetes.merging import merge

AGENT, PAYLOAD = "agent", "payload"
"""The containers, by name: who writes a template says what it changes by these."""
PAYLOAD_FILE = "/run/swarmq/payload"
SECRETS_DIR = "/run/swarmq/secrets"
WORK_DIR = "/var/lib/swarmq"
MAX_SECRET_BYTES = 1 << 20
"""The API server takes no more in one Secret."""

_IN_MEMORY, _FROM_SECRET, _FROM_SECRETS = "/run/swarmq", "/run/swarmq-secret", "/run/swarmq-secrets"
_UID = 10001
_LOST_NODE = {"tolerationSeconds": 60}
"""A branch goes on elsewhere from its recorded steps; Kubernetes would leave it five minutes with a dead node."""
_ROOM_SECONDS = 60
"""activeDeadlineSeconds counts from when a node takes the pod, the branch's own time-out from the agent's start."""


@dataclass(frozen=True)
class PodRequest:
    """What a pod is to run, decided by the caller."""

    swarm_id: str
    subtask_id: str
    branch_id: str
    stage: int
    token: int
    """The branch's fencing token. Above 1 a running pod of the branch is looked for before one is made."""
    payload: bytes
    """As the agent finds it in its file; at most 1 MiB."""
    deadline_seconds: float
    """Most time between the agent's start and its end, in a pod that is made for this request. Kept on the pod: one
    that is adopted has the time that it was made with."""
    nonce: str
    """Kept on the pod, so that whoever adopts it can tell the agent's lines from imitations."""
    adopt_ended: bool = False
    """Whether a pod that has ended by itself is adopted too: nobody may have read its log to the end."""


@dataclass(frozen=True)
class PodDefaults:
    """What all pods of an installation have in common. ``template`` is merged over the finished manifest."""

    image: str
    template: Mapping[str, Any]
    secrets: Sequence[str] = ()
    start_seconds: float = 600.0


def secret_manifest(request: PodRequest, attempt: str, day: str) -> dict[str, Any]:
    """The payload, for the init container. PodError where it is too large."""
    if len(request.payload) > MAX_SECRET_BYTES:
        raise PodError(
            f"the payload of branch {request.branch_id} has {len(request.payload):,} bytes compressed, and a Secret "
            f"holds {MAX_SECRET_BYTES:,}: shorten the instruction or the results that it is given as context"
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _secret_name(request, attempt), "labels": _labels(request, day)},
        "immutable": True,
        "type": "Opaque",
        "data": {"payload": base64.b64encode(request.payload).decode()},
    }


def pod_manifest(request: PodRequest, defaults: PodDefaults, attempt: str, day: str) -> dict[str, Any]:
    """The branch's pod. What says whose pod it is, and that it runs once, no template can change."""
    whole = merge(_pod(request, defaults, _secret_name(request, attempt)), defaults.template)
    own = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.pod_name(request.swarm_id, request.branch_id),
            "labels": _labels(request, day),
            "annotations": {
                names.SWARM: request.swarm_id,
                names.BRANCH: request.branch_id,
                names.NONCE: request.nonce,
                names.DEADLINE: str(request.deadline_seconds),
                names.ATTEMPT: attempt,
                "kubectl.kubernetes.io/default-container": AGENT,
            },
        },
        "spec": {"restartPolicy": "Never"},
    }
    return merge(whole, own)


def deadline_of(pod: Mapping[str, Any]) -> float | None:
    """``deadline_seconds`` of the request that the pod was made for; None where the pod does not tell."""
    told = (pod["metadata"].get("annotations") or {}).get(names.DEADLINE)
    try:
        seconds = float(told or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _secret_name(request: PodRequest, attempt: str) -> str:
    return names.secret_name(names.pod_name(request.swarm_id, request.branch_id), attempt)


def _labels(request: PodRequest, day: str) -> dict[str, str]:
    own = names.branch_labels(request.swarm_id, request.subtask_id, request.stage, request.branch_id)
    return {**own, names.TOKEN: str(request.token), names.DAY: day}


def _pod(request: PodRequest, defaults: PodDefaults, secret: str) -> dict[str, Any]:
    deadline = math.ceil(request.deadline_seconds + defaults.start_seconds) + _ROOM_SECONDS
    return {
        "spec": {
            "activeDeadlineSeconds": deadline,
            "terminationGracePeriodSeconds": 30,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _UID,
                "runAsGroup": _UID,
                "fsGroup": _UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": [
                {"key": f"node.kubernetes.io/{fault}", "operator": "Exists", "effect": "NoExecute", **_LOST_NODE}
                for fault in ("unreachable", "not-ready")
            ],
            "initContainers": [_payload_container(defaults)],
            "containers": [_agent_container(defaults)],
            "volumes": [
                {"name": "payload-secret", "secret": {"secretName": secret, "defaultMode": 0o400}},
                *(_secret_volume(name) for name in defaults.secrets),
                {"name": "payload", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                {"name": "work", "emptyDir": {"sizeLimit": "10Gi"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
            ],
        },
    }


def _payload_container(defaults: PodDefaults) -> dict[str, Any]:
    copy = ["umask 077", f"cp {_FROM_SECRET}/payload {PAYLOAD_FILE}"]
    for name in defaults.secrets:  # `*` leaves out the links by which Kubernetes swaps a Secret's files
        copy += [f"mkdir -p {SECRETS_DIR}/{name}", f"cp {_FROM_SECRETS}/{name}/* {SECRETS_DIR}/{name}/"]
    return {
        "name": PAYLOAD,
        "image": defaults.image,
        "command": ["sh", "-ec", "\n".join(copy)],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "securityContext": _no_rights(),
        "volumeMounts": [
            {"name": "payload-secret", "mountPath": _FROM_SECRET, "readOnly": True},
            *(
                {"name": _volume(name), "mountPath": f"{_FROM_SECRETS}/{name}", "readOnly": True}
                for name in defaults.secrets
            ),
            {"name": "payload", "mountPath": _IN_MEMORY},
        ],
    }


def _agent_container(defaults: PodDefaults) -> dict[str, Any]:
    return {
        "name": AGENT,
        "image": defaults.image,
        "command": ["swarmq", "agent", "--payload-file", PAYLOAD_FILE],
        "workingDir": WORK_DIR,
        "env": [
            {"name": "HOME", "value": WORK_DIR},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
        ],
        "resources": {
            "requests": {"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "12Gi"},
        },
        "securityContext": _no_rights(),
        "volumeMounts": [
            {"name": "payload", "mountPath": _IN_MEMORY},
            {"name": "work", "mountPath": WORK_DIR},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _no_rights() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _volume(secret: str) -> str:
    return names.pod_name("secret", secret)


def _secret_volume(secret: str) -> dict[str, Any]:
    return {"name": _volume(secret), "secret": {"secretName": secret, "defaultMode": 0o400}}
