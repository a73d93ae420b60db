"""kill -9 right before each effect of the table in docs/design/records.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from chaos_fleet import END_SECONDS, PROCESSES, VISIBILITY_SECONDS, ChaosFleet
from chaos_swarm import CALLS, LOSER, OTHER
from fleet_stack import until
from verdict import RECOVERY_SECONDS, START_SECONDS, Verdict, check, lasting_keys, processes_of

from swarmq.crash_points import CrashPoint
from swarmq.fleet.app import celery_url
from swarmq.models.branch import BranchState
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE
from swarmq.models.events import EventType
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskStatus, SwarmState
from swarmq.store import keys

Passed = Callable[..., None]
P = CrashPoint
CONTROL_POINTS = {P.STAGE_RECORDED: 2, P.CHORD_PUBLISHED: 1, P.MEMBER_PUBLISHED: 3, P.COLLAPSE_DECIDED: 2}
AGENTS_POINTS = {
    P.PLAN_RECORDED: 1,
    P.START_STAGE_SENT: 1,
    P.BRANCH_CLAIMED: 2,
    P.ANSWER_RECORDED: 11,
    P.TOOLS_RUN: 11,
    P.WORKTREE_SAVED: 7,
    P.CHECKPOINT_RECORDED: 7,
    P.RESULTS_RECORDED: 11,
    P.COMMIT_MADE: 2,
    P.OUTCOME_RECORDED: 2,
    P.SLOTS_SENT: 1,
    P.FINISH_STAGE_SENT: 1,
    P.BRANCH_ACKED: 2,
}
INTEGRATE_POINTS = {
    P.MERGE_MADE: 2,
    P.MERGE_RECORDED: 2,
    P.STAGE_CLOSED: 1,
    P.NEXT_SENT: 1,
    P.RESULT_BRANCH_WRITTEN: 1,
    P.SWARM_ENDED: 1,
}
OF_SUBMITTED = {"control": CONTROL_POINTS, "agents": AGENTS_POINTS, "integrate": INTEGRATE_POINTS}
OF_MESSAGES = {P.SWARM_RECORDED: "control", P.PLAN_SENT: "control", P.VALUE_SENT: "integrate"}
OF_REVOKES = (P.CANCEL_SPREAD, P.REVOKE_SENT)
REDELIVERY_SECONDS = VISIBILITY_SECONDS + 10.0 + START_SECONDS
"""Workers look every 2 s here for messages whose time-out is over (every 10 s by default, which this allows for)."""
CASES = [(name, point, nth) for name, points in OF_SUBMITTED.items() for point, nth in points.items()]


def test_every_point_is_a_case() -> None:
    cases = [*(point for _, point, _ in CASES), *OF_MESSAGES, *OF_REVOKES, P.KILL_SENT]
    assert sorted(cases) == sorted(CrashPoint)


@pytest.mark.parametrize(("name", "point", "nth"), CASES, ids=[point.value for _, point, _ in CASES])
def test_killed_before(fleet: ChaosFleet, passed: Passed, name: str, point: CrashPoint, nth: int) -> None:
    names = [process for process, queue in PROCESSES.items() if queue == name]
    marker = fleet.trap(f"{point}:kill:{nth}", *names)
    swarm = fleet.begin()
    pid = fleet.sprung(marker)
    swarm.blow(pids=[pid]).struck().recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))


@pytest.fixture
def producer(fleet: ChaosFleet) -> Iterator[Celery]:
    url = celery_url(fleet.stack.url)
    app = Celery("producer", broker=url, backend=url)
    yield app
    app.close()


@pytest.mark.parametrize("point", OF_MESSAGES)
def test_killed_before_for_a_producer(fleet: ChaosFleet, producer: Celery, passed: Passed, point: CrashPoint) -> None:
    marker = fleet.trap(point, OF_MESSAGES[point])
    swarm, sent = fleet.send(producer)
    fleet.sprung(marker)
    since = time.monotonic()
    until(lambda: fleet.redis.exists(keys.SWARM(swarm.handle.id)) or None, "the record", REDELIVERY_SECONDS)
    if point is P.VALUE_SENT:
        until(lambda: sent.backend.get_state(sent.id) == "SUCCESS" or None, "the value", END_SECONDS)
    else:
        until(lambda: swarm.handle.status().state is not SwarmState.SUBMITTED or None, "the plan", END_SECONDS)
    swarm.recoveries.append(time.monotonic() - since)
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=REDELIVERY_SECONDS))
    until(lambda: sent.backend.get_state(sent.id) == "SUCCESS" or None, "the value", END_SECONDS)
    assert sent.backend.get_result(sent.id)["success"] is True


@pytest.mark.parametrize("point", OF_REVOKES)
def test_killed_before_for_a_cancellation(
    fleet: ChaosFleet, producer: Celery, passed: Passed, point: CrashPoint
) -> None:
    marker = fleet.trap(point, "control")
    swarm, sent = fleet.send(producer)
    until(lambda: fleet.redis.exists(keys.SWARM(swarm.handle.id)) or None, "the record")
    swarm.until_steps(20)
    producer.control.revoke(sent.id, terminate=True)
    fleet.sprung(marker)
    since = time.monotonic()
    result = swarm.result()
    seconds = time.monotonic() - since
    assert result.state is SwarmState.CANCELLED
    assert all(branch.state is BranchState.DONE for branch in swarm.handle.branches())
    assert sum(swarm.calls().values()) < sum(CALLS.values())
    assert not processes_of(swarm.handle.id)
    assert not lasting_keys(swarm)
    assert seconds < RECOVERY_SECONDS + START_SECONDS
    passed(Verdict(1, 0, seconds))


def test_killed_before_a_branch_that_loses_is_stopped(fleet: ChaosFleet) -> None:
    """Its holder finds the mark with the next heartbeat; the other branch is not touched by looks that follow."""
    marker = fleet.trap(P.KILL_SENT, *(process for process, queue in PROCESSES.items() if queue == "control"))
    plan = Plan(subtasks=(Subtask(name="loser", instruction=LOSER), Subtask(name="other", instruction=OTHER)))
    repo, own = fleet.workplace()
    policy = {"max_consecutive_compile_failures": 1}
    handle = fleet.client.submit(plan, repo=repo, collapse="stage", collapse_policy=policy, **own)
    fleet.sprung(marker)
    loser, other = handle.result(END_SECONDS).subtasks
    assert (loser.status, other.success) == (SubtaskStatus.CANCELLED, True)
    assert loser.error is not None
    assert loser.error.startswith(CANCELLED_BY_COLLAPSE)
    killed = [event.branch for event in handle.events() if event.type is EventType.BRANCH_KILLED]
    assert killed == ["loser"]
