from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.kubernetes.health import PodState, read_pod, resource_health

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
    restarts=st.integers(0, 50),
    container_runs=st.booleans(),
)


@pytest.mark.parametrize(
    ("state", "score", "signals"),
    [
        (None, 0.2, 1),
        (PodState(reason="OOMKilled"), 0.0, 3),
        (PodState(reason="ImagePullBackOff", phase="Pending", ready=False), 0.0, 3),
        (PodState(reason="ErrImagePull"), 0.0, 3),
        (PodState(reason="CrashLoopBackOff", ready=False, restarts=9), 0.1, 2),
        (PodState(phase="Failed"), 0.1, 2),
        (PodState(phase="Failed", reason="OOMKilled"), 0.0, 3),
        (PodState(), 1.0, 0),
        (PodState(ready=False), 0.8, 0),
        (PodState(reason="Evicted"), 0.7, 1),
        (PodState(restarts=1), 0.8, 1),
        (PodState(restarts=3), 0.4, 1),
        (PodState(restarts=30), 0.4, 1),
        (PodState(ready=False, reason="Error", restarts=2), 0.1, 2),
        (PodState(ready=False, reason="Error", restarts=3), 0.0, 2),
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
    assert (health.score == 1) == (
        state.ready and not state.reason and not state.restarts and state.phase.lower() != "failed"
    )


@given(states, st.integers(1, 5))
def test_what_gets_worse_never_scores_better(state: PodState, more: int) -> None:
    score = resource_health(state).score
    worse = [
        replace(state, ready=False),
        replace(state, restarts=state.restarts + more),
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
        (pod(RUNNING, OOM | {"state": {"running": {}}}), PodState(ready=False, restarts=1), False),
        (
            pod(OOM | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            PodState(ready=False, reason="OOMKilled", restarts=1, container_runs=False),
            True,
        ),
        (
            pod({"ready": False, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            PodState(ready=False, reason="CrashLoopBackOff", restarts=4, container_runs=False),
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
        (pod(phase="Failed", reason="Evicted"), PodState("Failed", False, "Evicted", 0, False), True),
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
