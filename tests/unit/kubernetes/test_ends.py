"""How a pod's end is read from what the API says of it. The double shows the usual ones; here are the others."""

from __future__ import annotations

from typing import Any

import pytest

from swarmq.kubernetes.ends import PodReason, gone_end, has_started, read_end, start_problem, started_at, waits_for

RUNNING = {"running": {"startedAt": "2026-11-26T00:00:00Z"}}
UNKNOWN = (PodReason.NODE_LOST, 137, True)


def pod(state: dict[str, Any] | None = None, deleted: bool = False, **status: Any) -> dict[str, Any]:
    statuses = [] if state is None else [{"name": "agent", "state": state}]
    metadata = {"deletionTimestamp": "2026-11-26T00:00:00Z"} if deleted else {}
    return {"metadata": metadata, "status": {"phase": "Running", "containerStatuses": statuses, **status}}


def terminated(code: int, reason: str = "Error", **told: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **told}}


@pytest.mark.parametrize(
    ("seen", "reason", "code", "lost"),
    [
        (pod(terminated(0, "Completed")), PodReason.COMPLETED, 0, False),
        (pod(terminated(0, "Completed"), deleted=True), PodReason.COMPLETED, 0, False),
        (pod(terminated(1)), PodReason.FAILED, 1, False),
        (pod(terminated(137, "OOMKilled")), PodReason.OOM_KILLED, 137, False),
        (pod(terminated(137, "OOMKilled"), deleted=True), PodReason.OOM_KILLED, 137, False),
        (pod(terminated(143), deleted=True), PodReason.VANISHED, None, True),
        (pod(terminated(137), phase="Failed", reason="Evicted", message="low on memory"), PodReason.EVICTED, 137, True),
        (pod(None, phase="Failed", reason="Evicted", message="low on disk"), PodReason.EVICTED, None, True),
        (pod(RUNNING, phase="Failed", reason="DeadlineExceeded"), PodReason.TIMED_OUT, None, False),
        (pod(RUNNING, phase="Failed", reason="NodeLost"), PodReason.NODE_LOST, None, True),
        (pod(None, phase="Failed", reason="OutOfcpu", message="no room"), PodReason.EVICTED, None, True),
        (pod(None, phase="Failed", reason="UnexpectedAdmissionError"), PodReason.EVICTED, None, True),
        (pod(terminated(128, "StartError", message="no such\nfile")), PodReason.CANNOT_START, 128, False),
        (pod(None, phase="Failed"), PodReason.FAILED, None, False),
        (pod(terminated(255), phase="Failed"), PodReason.FAILED, 255, False),
        (pod(terminated(255, "Unknown"), phase="Failed"), PodReason.NODE_LOST, 255, True),
        (pod(terminated(137, "ContainerStatusUnknown", message="not located"), phase="Failed"), *UNKNOWN),
        (pod(terminated(137, "ContainerStatusUnknown", message="not located"), phase="Failed", deleted=True), *UNKNOWN),
    ],
)
def test_ends(seen: dict[str, Any], reason: PodReason, code: int | None, lost: bool) -> None:
    end = read_end(seen)
    assert end is not None
    assert (end.reason, end.exit_code, end.lost) == (reason, code, lost)
    assert "\n" not in end.detail
    assert gone_end(seen) == end, "that it is gone by now changes nothing"


def test_a_node_that_restarts_while_the_pod_is_being_started() -> None:
    """The agent's container has never been there, so nothing is said of it."""
    started = [{"name": "payload", "state": terminated(255, "Unknown")}]
    waiting = {"waiting": {"reason": "PodInitializing"}}
    end = read_end(pod(waiting, phase="Failed", initContainerStatuses=started))
    assert end is not None
    assert (end.reason, end.lost, end.started) == (PodReason.NODE_LOST, True, False)
    assert end.detail == "its node does not know how the container payload ended (Unknown)"


def test_an_agent_whose_end_was_seen_is_judged_by_it_whatever_became_of_the_others() -> None:
    seen = pod(terminated(3), phase="Failed")
    seen["status"]["containerStatuses"].append({"name": "sidecar", "state": terminated(255, "Unknown")})
    end = read_end(seen)
    assert end is not None
    assert (end.reason, end.exit_code) == (PodReason.FAILED, 3)


def test_a_node_that_makes_room_is_told_by_the_condition() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "for another",
    }
    end = gone_end(pod(RUNNING, deleted=True, conditions=[condition]))
    assert (end.reason, end.detail, end.lost) == (PodReason.EVICTED, "PreemptionByScheduler: for another", True)


@pytest.mark.parametrize(
    "seen", [pod(), pod(RUNNING), pod({"waiting": {}}), {"metadata": {}}, pod(RUNNING, deleted=True)]
)
def test_what_has_not_ended(seen: dict[str, Any]) -> None:
    assert read_end(seen) is None
    assert gone_end(seen).reason is PodReason.VANISHED


def test_a_start_that_failed_is_none() -> None:
    assert has_started(pod(RUNNING))
    assert not has_started(pod(terminated(128, "StartError")))
    assert started_at(pod(RUNNING)) == 1795651200.0
    assert started_at(pod()) is None


@pytest.mark.parametrize(
    ("reason", "message", "expected", "for_good"),
    [
        ("ErrImagePull", "manifest unknown", PodReason.IMAGE_UNPULLABLE, True),
        ("ErrImagePull", "pull access denied, repository does not exist", PodReason.IMAGE_UNPULLABLE, True),
        ("ErrImagePull", "429 Too Many Requests", PodReason.IMAGE_UNPULLABLE, False),
        ("ImagePullBackOff", "", PodReason.IMAGE_UNPULLABLE, False),
        ("InvalidImageName", "", PodReason.IMAGE_UNPULLABLE, True),
        ("CreateContainerConfigError", 'secret "x" not found', PodReason.CANNOT_START, False),
    ],
)
def test_what_keeps_a_pod_from_starting(reason: str, message: str, expected: PodReason, for_good: bool) -> None:
    problem = start_problem(pod({"waiting": {"reason": reason, "message": message}}))
    assert problem is not None
    assert (problem[0], problem[2]) == (expected, for_good)
    assert reason in problem[1]


def test_only_what_keeps_it_waiting_is_told() -> None:
    assert waits_for(pod({"waiting": {"reason": "ContainerCreating"}})) == ""
    assert waits_for(pod(RUNNING)) == ""
    unscheduled = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are\navailable"}]
    assert waits_for(pod(conditions=unscheduled)) == "no node takes the pod: 0/3 nodes are available"
