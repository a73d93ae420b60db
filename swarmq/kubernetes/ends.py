"""How a pod stands and how it ended, from what the API says of it. Pure; times are Unix seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from swarmq.kubernetes.podspec import AGENT

Pod = Mapping[str, Any]


class PodReason(StrEnum):
    """The one named way in which a pod ended."""

    COMPLETED = "completed"
    """Exit code 0; what the agent made of its branch is in its log."""
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OOM_KILLED = "oom_killed"
    IMAGE_UNPULLABLE = "image_unpullable"
    CANNOT_START = "cannot_start"
    """The node cannot start a container: a Secret that is not there, a command that is not in the image."""
    NEVER_STARTED = "never_started"
    """No node took it, or none got it started in time."""
    VANISHED = "vanished"
    EVICTED = "evicted"
    """Its node was short of something, was drained, or had a more important pod to run."""
    NODE_LOST = "node_lost"
    """Its node does not answer, or has restarted and does not know how the containers ended."""


@dataclass(frozen=True)
class PodEnd:
    reason: PodReason
    detail: str
    """One line for a person."""
    exit_code: int | None = None
    started: bool = False
    """Whether the agent's container has ever run."""

    @property
    def lost(self) -> bool:
        """The cluster took the pod away: another may go on from the recorded steps."""
        return self.reason in (PodReason.VANISHED, PodReason.EVICTED, PodReason.NODE_LOST)


_DEFINITE = re.compile(
    r"not found|manifest unknown|unauthorized|denied|forbidden|authentication required|no basic auth|invalid reference"
    r"|does not exist",
    re.IGNORECASE,
)
"""What a registry says of an image that it will not hand out later either."""
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
_QUERY = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']+")
"""Registries hand out layers by URLs that are signed there."""
_NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull")
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed")
_NOT_STARTED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_STARTING = ("", "ContainerCreating", "PodInitializing")
_START_ERRORS = ("StartError", "ContainerCannotRun")
_END_UNKNOWN = ("Unknown", "ContainerStatusUnknown")
"""Of a container that the runtime (with 255) or the node agent (with 137) does not find running any more when it is
back: nobody has seen an exit code."""


def state_of(pod: Pod, container: str = AGENT) -> tuple[str, Mapping[str, Any]]:
    """``waiting``, ``running`` or ``terminated`` with what is said of it; ``waiting`` where nothing is."""
    for status in _statuses(pod):
        if status.get("name") == container:
            for name, told in (status.get("state") or {}).items():
                return name, told or {}
    return "waiting", {}


def has_started(pod: Pod) -> bool:
    name, told = state_of(pod)
    return name == "running" or (name == "terminated" and told.get("reason") not in _START_ERRORS)


def is_terminated(pod: Pod) -> bool:
    """Whether the agent runs no more, and never will in this pod."""
    return state_of(pod)[0] == "terminated" or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def started_at(pod: Pod) -> float | None:
    """When the agent's container began, by its node's clock."""
    return _time(state_of(pod)[1].get("startedAt")) if has_started(pod) else None


def read_end(pod: Pod) -> PodEnd | None:
    """None while it runs or may still. An agent that ends because its pod is being deleted has not failed by itself."""
    end = _own_end(pod)
    if end is not None and end.reason is PodReason.FAILED and pod["metadata"].get("deletionTimestamp"):
        return _taken_away(pod)
    return end


def gone_end(pod: Pod) -> PodEnd:
    """Of a pod that is not there any more; ``pod`` is what was last seen of it."""
    return read_end(pod) or _taken_away(pod)


def _taken_away(pod: Pod) -> PodEnd:
    disrupted, started = _disruption(pod), has_started(pod)
    if disrupted:
        return PodEnd(PodReason.EVICTED, disrupted, None, started)
    return PodEnd(PodReason.VANISHED, "the pod was deleted, and not by swarmq", None, started)


def _own_end(pod: Pod) -> PodEnd | None:
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), one_line(status.get("message"))
    started = has_started(pod)
    state, told = state_of(pod)
    code = told.get("exitCode") if state == "terminated" else None
    if not is_terminated(pod):
        return None
    if state == "terminated" and told.get("reason") == "OOMKilled":
        return PodEnd(PodReason.OOM_KILLED, "the agent used more memory than its pod may have", code, started)
    if reason == "DeadlineExceeded":
        return PodEnd(PodReason.TIMED_OUT, "the pod ran longer than its activeDeadlineSeconds", code, started)
    if reason == "NodeLost":
        return PodEnd(PodReason.NODE_LOST, message or "its node does not answer", code, started)
    disrupted = _disruption(pod)
    if code != 0 and (disrupted or reason in ("Evicted", "Preempting", "Shutdown", "Terminated", "NodeShutdown")):
        return PodEnd(PodReason.EVICTED, disrupted or f"{reason}: {message}", code, started)
    if code == 0:
        return PodEnd(PodReason.COMPLETED, "the agent exited with 0", 0, started)
    return _failure(pod, reason, message, code, started)


def _failure(pod: Pod, reason: str, message: str, code: int | None, started: bool) -> PodEnd:
    unseen = _unseen_end(pod)
    if unseen:
        return PodEnd(PodReason.NODE_LOST, unseen, code, started)
    state, told = state_of(pod)
    if state == "terminated":
        why = str(told.get("reason") or "")
        said = one_line(told.get("message"))
        if why in _START_ERRORS:
            return PodEnd(PodReason.CANNOT_START, f"{why}: {said}", code, False)
        signal = f", signal {told['signal']}" if told.get("signal") else ""
        detail = f"the agent exited with {code}{signal}" + (f": {said}" if said else "")
        return PodEnd(PodReason.FAILED, detail, code, started)
    for status in pod["status"].get("initContainerStatuses") or ():
        ended = (status.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            why = one_line(ended.get("message")) or ended.get("reason") or ""
            detail = f"the init container {status['name']} exited with {ended['exitCode']}: {why}"
            return PodEnd(PodReason.CANNOT_START, detail, ended["exitCode"], False)
    detail = ": ".join(filter(None, (reason, message))) or "the pod failed, and nobody says why"
    if reason.startswith(("UnexpectedAdmissionError", "OutOf")):
        return PodEnd(PodReason.EVICTED, detail, None, False)  # the node it was given to had no room after all
    return PodEnd(PodReason.FAILED, detail, None, started)


def _unseen_end(pod: Pod) -> str:
    """That the agent, or what prepares its pod, ended while its node was not there to see it; '' where it was seen."""
    agent_ended = state_of(pod)[0] == "terminated"
    for status in _statuses(pod):
        if agent_ended and status.get("name") != AGENT:
            continue
        ended = (status.get("state") or {}).get("terminated") or {}
        if ended.get("reason") in _END_UNKNOWN:
            said = one_line(ended.get("message"))
            told = f"its node does not know how the container {status.get('name')} ended ({ended['reason']})"
            return f"{told}: {said}" if said else told
    return ""


def start_problem(pod: Pod) -> tuple[PodReason, str, bool] | None:
    """What keeps its containers from starting: the reason it would end with, in words, and whether that is for good.

    What is not for good mends itself within a minute, or not at all.
    """
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), one_line(waiting.get("message"))
        told = f"{reason}: {message}" if message else reason
        if reason in _NEVER_PULLED:
            return PodReason.IMAGE_UNPULLABLE, told, True
        if reason in _IMAGE:
            return PodReason.IMAGE_UNPULLABLE, told, bool(_DEFINITE.search(message))
        if reason in _NOT_STARTED:
            return PodReason.CANNOT_START, told, False
    return None


def waits_for(pod: Pod) -> str:
    """What a pod that has not started waits for, in words; '' where there is nothing to say."""
    if has_started(pod) or is_terminated(pod):
        return ""
    problem = start_problem(pod)
    if problem:
        return f"the pod does not start: {problem[1]}"
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node takes the pod: {one_line(condition.get('message')) or condition.get('reason') or ''}"
    return ""


def _disruption(pod: Pod) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"{condition.get('reason') or 'disrupted'}: {one_line(condition.get('message'))}"
    return ""


def _statuses(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def one_line(text: object) -> str:
    """The cluster's words: without what may sign a person in at a registry, and at most 500 characters."""
    words = _LOGIN.sub("***@", " ".join(str(text or "").split()))
    return _QUERY.sub(r"\1?…", words)[:500]


def _time(text: object) -> float | None:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
