"""kill -9 right before each effect of the table in docs/design/records.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from chaos_fleet import END_SECONDS, PATIENCE_SECONDS, VISIBILITY_SECONDS, ChaosFleet, ChaosSwarm
from chaos_swarm import CALLS, FAST, LOSER, MENDED, ONE_SIDE, OTHER, OTHER_SIDE, RESOLVED, SLOW
from fleet_stack import git, until
from verdict import RECOVERY_SECONDS, START_SECONDS, Verdict, check, check_recoveries, lasting_keys, processes_of

from swarmq import Plan, Subtask
from swarmq.crash_points import CrashPoint
from swarmq.fleet.app import celery_url
from swarmq.models.branch import BranchState, Exit
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE
from swarmq.models.events import EventType
from swarmq.models.swarm import SubtaskStatus, SwarmState
from swarmq.store import keys

Passed = Callable[..., None]
P = CrashPoint
OF_SUBMITTED: tuple[dict[CrashPoint, int], ...] = (
    {P.PLAN_RECORDED: 1, P.BRANCH_CLAIMED: 2, P.FINISH_STAGE_SENT: 1},
    {P.START_STAGE_SENT: 1, P.CALL_MADE: 11, P.STAGE_RECORDED: 1},
    {P.CHORD_PUBLISHED: 1, P.ANSWER_RECORDED: 11, P.MERGE_MADE: 2},
    {P.MEMBER_PUBLISHED: 3, P.TOOLS_RUN: 11, P.MERGE_RECORDED: 2},
    {P.WORKTREE_SAVED: 7, P.STAGE_CLOSED: 1},
    {P.COLLAPSE_DECIDED: 2, P.CHECKPOINT_RECORDED: 7, P.NEXT_SENT: 1},
    {P.RESULTS_RECORDED: 11, P.RESULT_BRANCH_WRITTEN: 1},
    {P.SLOTS_SENT: 1, P.SWARM_ENDED: 1},
    {P.COMMIT_MADE: 2, P.OUTCOME_RECORDED: 2, P.BRANCH_ACKED: 2},
)
"""Points that one swarm meets one after another: the next trap is set when it has recovered from the one before.

With the number of the time at which the first process that comes by so often dies.
"""
OF_MESSAGES = (P.SWARM_RECORDED, P.PLAN_SENT, P.VALUE_SENT)
OF_PAUSES = (P.BRANCH_PARKED,)
OF_VERIFY = (P.VERIFY_RUN, P.SENT_BACK)
OF_RACES, OF_CONFLICTS = (P.LOSERS_STOPPED,), (P.RESOLVER_SENT,)
OF_REVOKES = (P.CANCEL_SPREAD, P.REVOKE_SENT)
REDELIVERY_SECONDS = VISIBILITY_SECONDS + 10.0 + START_SECONDS
"""Workers look every 2 s here for messages whose time-out is over (every 10 s by default, which this allows for)."""


def test_every_point_is_a_case() -> None:
    submitted = [point for points in OF_SUBMITTED for point in points]
    cases = [
        *(*submitted, *OF_MESSAGES, *OF_PAUSES, *OF_VERIFY),
        *(*OF_RACES, *OF_CONFLICTS, *OF_REVOKES, P.KILL_SENT),
    ]
    assert sorted(cases) == sorted(CrashPoint)


@pytest.mark.parametrize("points", OF_SUBMITTED, ids=", ".join)
def test_killed_before(fleet: ChaosFleet, passed: Passed, points: dict[CrashPoint, int]) -> None:
    swarm: ChaosSwarm | None = None
    for point, nth in points.items():
        fleet.trap(f"{point}:kill:{nth}")
        swarm = swarm or fleet.begin()
        pid = fleet.sprung()
        swarm.blow(pids=[pid]).struck().recovered()
    assert swarm is not None
    passed(check(swarm, swarm.result(), faults=len(points), bound_seconds=RECOVERY_SECONDS + START_SECONDS))


@pytest.fixture
def producer(fleet: ChaosFleet) -> Iterator[Celery]:
    url = celery_url(fleet.stack.url)
    app = Celery("producer", broker=url, backend=url)
    yield app
    app.close()


@pytest.mark.parametrize("point", OF_MESSAGES)
def test_killed_before_for_a_producer(fleet: ChaosFleet, producer: Celery, passed: Passed, point: CrashPoint) -> None:
    fleet.trap(point)
    swarm, sent = fleet.send(producer)
    fleet.sprung()
    since = time.monotonic()
    until(lambda: fleet.redis.exists(keys.SWARM(swarm.handle.id)) or None, "the record", REDELIVERY_SECONDS)
    if point is P.VALUE_SENT:
        until(lambda: sent.backend.get_state(sent.id) == "SUCCESS" or None, "the value", END_SECONDS)
    else:
        until(lambda: swarm.handle.status().state is not SwarmState.SUBMITTED or None, "the plan", END_SECONDS)
    swarm.note_recovery(since)
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=REDELIVERY_SECONDS))
    until(lambda: sent.backend.get_state(sent.id) == "SUCCESS" or None, "the value", END_SECONDS)
    assert sent.backend.get_result(sent.id)["success"] is True


@pytest.mark.parametrize("point", OF_PAUSES)
def test_killed_before_in_a_pause(fleet: ChaosFleet, passed: Passed, point: CrashPoint) -> None:
    """What it held waits for the end of the pause, and no model is called before it."""
    swarm = fleet.begin()
    swarm.until_steps(20)
    fleet.trap(point)
    assert swarm.handle.pause("chaos")
    pid = fleet.sprung()
    blow = swarm.blow(pids=[pid])
    until(lambda: set(swarm.held_by(None)) == set(swarm.held_by([pid])) or None, "the end of all other steps")
    calls = swarm.calls()
    fleet.wire.wait(PATIENCE_SECONDS)
    assert swarm.calls() == calls
    assert swarm.handle.resume()
    blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))


@pytest.mark.parametrize("point", OF_VERIFY)
def test_killed_before_for_work_that_does_not_pass(fleet: ChaosFleet, passed: Passed, point: CrashPoint) -> None:
    fleet.trap(point)
    repo, own = fleet.workplace()
    plan = Plan(subtasks=(Subtask(name="Mended", instruction=MENDED),))
    handle = fleet.client.submit(plan, repo=repo, verify="cat second.txt", verify_rounds=1, **own)
    fleet.sprung()
    since = time.monotonic()
    result = handle.result(END_SECONDS)
    assert result.success, result.report
    (subtask,) = result.subtasks
    assert (subtask.steps, len(fleet.stack.server.requests)) == (4, 4), "no answer was paid for twice"
    assert subtask.verify is not None
    assert subtask.verify.passed
    told = [entry.verify for entry in handle.transcript("mended") if entry.verify is not None]
    assert [report.passed for report in told] == [False], "the agent was told once"
    assert not processes_of(handle.id)
    passed(Verdict(1, 0, fleet.recovery(since)))


@pytest.mark.parametrize("point", OF_RACES)
def test_killed_before_in_a_race(fleet: ChaosFleet, passed: Passed, point: CrashPoint) -> None:
    """The race is won by the record; who died before it stopped the loser is stood in for."""
    fleet.trap(point)
    repo, own = fleet.workplace()
    plan = Plan(subtasks=(Subtask(name="Raced", instruction="Race.", candidates=2, approaches=(FAST, SLOW)),))
    handle = fleet.client.submit(plan, repo=repo, verify="cat first.txt", **own)
    fleet.sprung()
    since = time.monotonic()
    result = handle.result(END_SECONDS)
    assert result.success, result.report
    winner, loser = result.subtasks[0].candidates
    assert (winner.branch_id, winner.promoted, winner.exit) == ("raced", True, Exit.COMPLETED)
    assert (loser.branch_id, loser.promoted, loser.exit) == ("raced.2", False, Exit.CANCELLED)
    assert loser.error == "Cancelled by collapse controller: raced won the race"
    assert git(repo, "show", f"{result.commit}:first.txt") == "first"
    assert not processes_of(handle.id)
    passed(Verdict(1, 0, fleet.recovery(since)))


@pytest.mark.parametrize("point", OF_CONFLICTS)
def test_killed_before_in_a_conflict(fleet: ChaosFleet, passed: Passed, point: CrashPoint) -> None:
    fleet.trap(point)
    repo, own = fleet.workplace()
    sides = (Subtask(name="One", instruction=ONE_SIDE), Subtask(name="Other", instruction=OTHER_SIDE))
    handle = fleet.client.submit(Plan(subtasks=sides), repo=repo, **own)
    fleet.sprung()
    since = time.monotonic()
    result = handle.result(END_SECONDS)
    assert result.success, result.report
    assert [subtask.resolved_by for subtask in result.subtasks] == [None, "other.r1"]
    assert git(repo, "show", f"{result.commit}:both.txt") == RESOLVED
    assert len(fleet.stack.server.requests) == 6, "no answer was paid for twice"
    passed(Verdict(1, 0, fleet.recovery(since)))


@pytest.mark.parametrize("point", OF_REVOKES)
def test_killed_before_for_a_cancellation(
    fleet: ChaosFleet, producer: Celery, passed: Passed, point: CrashPoint
) -> None:
    swarm, sent = fleet.send(producer)
    until(lambda: fleet.redis.exists(keys.SWARM(swarm.handle.id)) or None, "the record")
    swarm.until_steps(20)
    fleet.trap(point)
    producer.control.revoke(sent.id, terminate=True)
    fleet.sprung()
    since = time.monotonic()
    result = swarm.result()
    swarm.note_recovery(since)
    assert result.state is SwarmState.CANCELLED
    assert all(branch.state is BranchState.DONE for branch in swarm.handle.branches())
    assert sum(swarm.calls().values()) < sum(CALLS.values())
    assert not processes_of(swarm.handle.id)
    assert not lasting_keys(swarm)
    worst = check_recoveries(swarm, RECOVERY_SECONDS + START_SECONDS)
    passed(Verdict(1, 0, worst))


def test_killed_before_a_branch_that_loses_is_stopped(fleet: ChaosFleet) -> None:
    """Its holder finds the mark with the next heartbeat; the other branch is not touched by looks that follow."""
    fleet.trap(P.KILL_SENT)
    plan = Plan(subtasks=(Subtask(name="loser", instruction=LOSER), Subtask(name="other", instruction=OTHER)))
    repo, own = fleet.workplace()
    policy = {"max_consecutive_compile_failures": 1}
    handle = fleet.client.submit(plan, repo=repo, collapse="stage", collapse_policy=policy, **own)
    fleet.sprung()
    loser, other = handle.result(END_SECONDS).subtasks
    assert (loser.status, other.success) == (SubtaskStatus.CANCELLED, True)
    assert loser.error is not None
    assert loser.error.startswith(CANCELLED_BY_COLLAPSE)
    killed = [event.branch for event in handle.events() if event.type is EventType.BRANCH_KILLED]
    assert killed == ["loser"]
