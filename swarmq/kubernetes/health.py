"""The resource health of a pod (S10), from what the API says of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmq.models.pods import PodHealth

IMAGE_ERRORS = ("imagepullbackoff", "errimagepull")
CRASHES = ("oomkilled", "crashloopbackoff")
RESTARTS_COUNTED = 3


@dataclass(frozen=True)
class PodState:
    """What health goes by. ``reason`` is Kubernetes' word for what is wrong, '' for nothing."""

    phase: str = "Running"
    ready: bool = True
    reason: str = ""
    restarts: int = 0
    container_runs: bool = True

    @property
    def started(self) -> bool:
        """Whether anything of it has run yet, or has failed to: a pod that waits for a node is not judged."""
        return self.phase.lower() != "pending" or self.restarts > 0 or bool(self.reason)


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
    score -= 0.2 * min(max(state.restarts, 0), RESTARTS_COUNTED)
    return health(score, int(bool(reason)) + int(state.restarts > 0))


def is_dead(state: PodState) -> bool:
    """Whether the process that held branches there has ended, by no fault of theirs."""
    if state.phase.lower() in ("failed", "succeeded"):
        return True
    return not state.container_runs and any(crash in state.reason.lower() for crash in CRASHES)


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
        restarts=sum(int(container.get("restartCount") or 0) for container in containers),
        container_runs=any("running" in (container.get("state") or {}) for container in containers),
    )


def _reason(container: Mapping[str, Any]) -> str:
    """Why the container does not run; for one that ran out of memory that, and not the back-off that follows."""
    state: Mapping[str, Any] = container.get("state") or {}
    if "running" in state:
        return ""
    last = (container.get("lastState") or {}).get("terminated") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
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
