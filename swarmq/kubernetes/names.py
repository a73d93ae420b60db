"""Names and labels of what swarmq makes in a cluster. Pure."""

from __future__ import annotations

import hashlib
import re

PREFIX = "swarmq.dev/"
SWARM, SUBTASK, STAGE, BRANCH = (f"{PREFIX}{noun}" for noun in ("swarm", "subtask", "stage", "branch"))
TOKEN = f"{PREFIX}token"
DAY = f"{PREFIX}day"
"""The day in UTC on which an object was made: what is old is found by it without the right to read Secrets."""
NONCE = f"{PREFIX}nonce"
DEADLINE = f"{PREFIX}deadline-seconds"
"""What the pod was made with: of another holder's request the time may be what is left of it."""
ATTEMPT = f"{PREFIX}attempt"
"""Tells a pod whose making was not answered from one that somebody else has made."""

MANAGED = {
    "app.kubernetes.io/managed-by": "swarmq",
    "app.kubernetes.io/name": "swarmq-agent",
    "app.kubernetes.io/component": "agent-pod",
}
"""On every pod and Secret of pod mode, and on nothing else."""

MAX_NAME, MAX_LABEL = 63, 63
_ATTEMPT = 9
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def pod_name(swarm_id: str, branch_id: str) -> str:
    """The one name that pods of a branch have, so that there is one at a time: a DNS label with room for a suffix."""
    digest = _digest(f"{swarm_id}\0{branch_id}", 12)
    room = MAX_NAME - _ATTEMPT - len("swarmq--") - len(digest)
    slug = re.sub(r"[^a-z0-9]+", "-", branch_id.lower())[:room].strip("-")
    return f"swarmq-{slug}-{digest}" if slug else f"swarmq-{digest}"


def secret_name(pod: str, attempt: str) -> str:
    """Of the Secret that one attempt to make the pod brings along. ``attempt``: 8 lower-case letters or digits."""
    return f"{pod}-{attempt}"


def label_value(text: str) -> str:
    """The text itself where it may be a label's value, else one made of it; different texts stay different."""
    if not text or _LABEL.fullmatch(text):
        return text
    digest = _digest(text, 12)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text)[: MAX_LABEL - len(digest) - 1].strip("-")
    return f"{slug}-{digest}" if slug else digest


def branch_labels(swarm_id: str, subtask_id: str, stage: int, branch_id: str) -> dict[str, str]:
    """What a branch's pod and Secret are found by."""
    return {
        **MANAGED,
        SWARM: label_value(swarm_id),
        SUBTASK: label_value(subtask_id),
        STAGE: str(stage),
        BRANCH: label_value(branch_id),
    }


def selector(labels: dict[str, str]) -> str:
    """For ``labelSelector``: objects that have all of them."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
