from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.kubernetes.health import PodState, read_pod, read_worker, resource_health

REASONS = (
    "",
    "Error",
    "Evicted",
    "OOMKilled",
    "ImagePullBackOff",
    "ErrImagePull",
    "CrashLoopBackOff",
    "crashloopbackoff",
)
PHASES = ("Pending", "Running", "Failed", "failed", "Succeeded", "Unknown")
states = st.builds(
    PodState,
    phase=st.sampled_from(PHASES),
    ready=st.booleans(),
    reason=st.sampled_from(REASONS),
    container_runs=st.booleans(),
)


@pytest.mark.parametrize(
    ("state", "score", "signals"),
    [
        (None, 0.2, 1),
        (PodState(reason="OOMKilled"), 0.0, 3),
        (PodState(reason="ImagePullBackOff", phase="Pending", ready=False), 0.0, 3),
        (PodState(reason="ErrImagePull"), 0.0, 3),
        (PodState(reason="CrashLoopBackOff", ready=False), 0.1, 2),
        (PodState(phase="Failed"), 0.1, 2),
        (PodState(phase="Failed", reason="OOMKilled"), 0.0, 3),
        (PodState(), 1.0, 0),
        (PodState(ready=False), 0.8, 0),
        (PodState(reason="Evicted"), 0.7, 1),
        (PodState(ready=False, reason="Error"), 0.5, 1),
    ],
)
def test_the_table(state: PodState | None, score: float, signals: int) -> None:
    health = resource_health(state)
    assert health.score == pytest.approx(score)
    assert health.signals == signals


@given(states)
def test_health_is_a_share_and_counts_its_signs(state: PodState) -> None:
    health = resource_health(state)
    assert 0 <= health.score <= 1
    assert 0 <= health.signals <= 3
    assert (health.score == 1) == (state.ready and not state.reason and state.phase.lower() != "failed")


@given(states)
def test_what_gets_worse_never_scores_better(state: PodState) -> None:
    score = resource_health(state).score
    worse = [
        replace(state, ready=False),
        replace(state, reason="OOMKilled"),
        replace(state, reason=state.reason or "Error"),
    ]
    assert all(resource_health(found).score <= score + 1e-9 for found in worse)
    assert all(resource_health(found).signals >= resource_health(state).signals for found in worse)


def pod(*containers: dict[str, Any], phase: str = "Running", **status: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, "containerStatuses": list(containers), **status}}


RUNNING = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
OOM = {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "restartCount": 1, "ready": False}


@pytest.mark.parametrize(
    ("found", "expected", "dead"),
    [
        (pod(RUNNING), PodState(), False),
        (pod(RUNNING, OOM | {"state": {"running": {}}}), PodState(ready=False), False),
        (
            pod(OOM | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            PodState(ready=False, reason="OOMKilled", container_runs=False),
            True,
        ),
        (
            pod({"ready": False, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            PodState(ready=False, reason="CrashLoopBackOff", container_runs=False),
            True,
        ),
        (
            pod({"ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}, phase="Pending"),
            PodState("Pending", ready=False, container_runs=False),
            False,
        ),
        (
            pod({"ready": False, "state": {"waiting": {"reason": "ErrImagePull"}}}, phase="Pending"),
            PodState("Pending", ready=False, reason="ErrImagePull", container_runs=False),
            False,
        ),
        (pod(phase="Failed", reason="Evicted"), PodState("Failed", False, "Evicted", False), True),
        ({}, PodState("Pending", ready=False, container_runs=False), False),
    ],
)
def test_reading_a_pod(found: dict[str, Any], expected: PodState, dead: bool) -> None:
    state = read_pod(found)
    assert state == expected
    assert resource_health(state).dead is dead


def test_a_pod_that_waits_for_a_node_has_not_started() -> None:
    assert not read_pod(pod(phase="Pending")).started
    assert read_pod(pod({"state": {"waiting": {"reason": "ErrImagePull"}}}, phase="Pending")).started
    assert read_pod(pod(RUNNING)).started


def worker_pod(*containers: tuple[str, dict[str, Any]], **status: Any) -> dict[str, Any]:
    """In the order of their names, as a kubelet reports; the spec has the first one first."""
    names = [name for name, _ in containers]
    statuses = sorted(({"name": name, **found} for name, found in containers), key=lambda found: str(found["name"]))
    return pod(*statuses, **status) | {"spec": {"containers": [{"name": name} for name in names]}}


CRASHING = {"ready": False, "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
WAITING = OOM | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}


@pytest.mark.parametrize("sidecar", [RUNNING, CRASHING, CRASHING | {"state": {"waiting": {"reason": "ErrImagePull"}}}])
@pytest.mark.parametrize("name", ["a-sidecar", "z-sidecar"])
@pytest.mark.parametrize("worker", ["swarmq", "runner"])
def test_a_sidecar_says_nothing_of_the_worker(sidecar: dict[str, Any], name: str, worker: str) -> None:
    lives = resource_health(read_worker(worker_pod((worker, RUNNING), (name, sidecar))))
    assert (lives.score, lives.signals, lives.dead) == (1.0, 0, False)
    assert resource_health(read_worker(worker_pod((worker, WAITING), (name, sidecar)))).dead


def test_the_worker_is_found_where_a_sidecar_comes_first() -> None:
    assert resource_health(read_worker(worker_pod(("proxy", CRASHING), ("swarmq", RUNNING)))).score == 1.0


@pytest.mark.parametrize("how", [{"reason": "Error", "exitCode": 75}, {"reason": "Completed", "exitCode": 0}])
def test_a_worker_whose_container_has_ended_is_dead_whatever_ended_it(how: dict[str, Any]) -> None:
    ended = {"ready": False, "restartCount": 0, "state": {"terminated": how}}
    assert resource_health(read_worker(worker_pod(("swarmq", ended)))).dead


def test_restarts_and_what_ran_before_are_history() -> None:
    again = {"ready": True, "restartCount": 9, **OOM, "state": {"running": {}}} | {"ready": True}
    init = {"name": "setup", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}, **OOM}
    found = worker_pod(("swarmq", again), initContainerStatuses=[init])
    assert resource_health(read_worker(found)).score == 1.0
    assert read_pod(found).reason == "", "an init container that ran out of memory once, and then did its work"
