"""The resource health of a pod (S10), from what the API says of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmq.models.pods import PodHealth

IMAGE_ERRORS = ("imagepullbackoff", "errimagepull")
WORKER = "swarmq"
"""The container that the worker runs in; where none has the name, the first one is it, as for kubectl."""


@dataclass(frozen=True)
class PodState:
    """What health goes by. ``reason`` is Kubernetes' word for what is wrong, '' for nothing."""

    phase: str = "Running"
    ready: bool = True
    reason: str = ""
    container_runs: bool = True

    @property
    def started(self) -> bool:
        """Whether anything of it has run yet, or has failed to: a pod that waits for a node is not judged."""
        return self.phase.lower() != "pending" or bool(self.reason)


def resource_health(state: PodState | None) -> PodHealth:
    """None: there is no such pod."""
    if state is None:
        return PodHealth(score=0.2, signals=1, reason="missing", dead=True)
    reason, dead = state.reason.lower(), is_dead(state)

    def health(score: float, signals: int) -> PodHealth:
        return PodHealth(score=min(1.0, max(0.0, score)), signals=signals, reason=state.reason, dead=dead)

    if any(error in reason for error in ("oomkilled", *IMAGE_ERRORS)):
        return health(0.0, 3)
    if "crashloopbackoff" in reason or state.phase.lower() == "failed":
        return health(0.1, 2)
    score = 1.0 - (0.0 if state.ready else 0.2) - (0.3 if reason else 0.0)
    return health(score, int(bool(reason)))


def is_dead(state: PodState) -> bool:
    """Whether the process that held branches there has ended, by no fault of theirs."""
    phase = state.phase.lower()
    return phase in ("failed", "succeeded") or (phase == "running" and not state.container_runs)


def read_pod(pod: Mapping[str, Any]) -> PodState:
    """A pod as the API sends it (JSON). Fields that are missing are those of a pod that is just being made."""
    status: Mapping[str, Any] = pod.get("status") or {}
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ()
    started: Sequence[Mapping[str, Any]] = status.get("initContainerStatuses") or ()
    reasons = [str(status.get("reason") or ""), *map(_reason, (*started, *containers))]
    return PodState(
        phase=str(status.get("phase") or "Pending"),
        ready=bool(containers) and all(bool(container.get("ready")) for container in containers),
        reason=max(reasons, key=_gravity, default=""),
        container_runs=any("running" in (container.get("state") or {}) for container in containers),
    )


def read_worker(pod: Mapping[str, Any]) -> PodState:
    """A worker's pod as its own container has it: sidecars, and what ran before it, say nothing of the worker.

    Nor does how often it was restarted, which Kubernetes never forgets: each time the process that held branches ended,
    and whoever holds one there now began later.
    """
    names = [container["name"] for container in pod["spec"]["containers"]]
    name = WORKER if WORKER in names else names[0]
    status = pod.get("status") or {}
    own = [found for found in status.get("containerStatuses") or () if found["name"] == name]
    return read_pod({"status": {**status, "containerStatuses": own, "initContainerStatuses": []}})


def _reason(container: Mapping[str, Any]) -> str:
    """Why the container does not run; for one that ran out of memory that, and not the back-off that follows."""
    state: Mapping[str, Any] = container.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    if "running" in state or terminated.get("exitCode") == 0:
        return ""
    last = (container.get("lastState") or {}).get("terminated") or {}
    if last.get("reason") == "OOMKilled":
        return "OOMKilled"
    reason = str(waiting.get("reason") or terminated.get("reason") or "")
    return "" if reason in ("ContainerCreating", "PodInitializing", "Completed") else reason


def _gravity(reason: str) -> int:
    """Of several containers' reasons the gravest counts."""
    text = reason.lower()
    if any(error in text for error in ("oomkilled", *IMAGE_ERRORS)):
        return 3
    return 2 if "crashloopbackoff" in text else int(bool(text))
