"""When a race is over though candidates still run."""

from __future__ import annotations

import pytest

from swarmq.collapse.deadlines import overdue_winner
from swarmq.models.branch import BranchRecord, BranchSpec, BranchState, Exit, Observation, Outcome
from swarmq.models.plan import Kind


def candidate(number: int, state: BranchState, started_at: float = 100.0, **more: object) -> BranchRecord:
    spec = BranchSpec(
        swarm_id="s",
        id="fix" if number == 1 else f"fix.{number}",
        subtask_id="fix",
        stage=0,
        kind=Kind.EDIT,
        celery_task_id="t",
        candidate=number,
    )
    outcome = Outcome(exit=Exit.COMPLETED) if state is BranchState.DONE else None
    given = {"observation": Observation(at=1, checks=True), "outcome": outcome} | more
    return BranchRecord(spec=spec, state=state, started_at=started_at, **given)


RUNNING, DONE = BranchState.RUNNING, BranchState.DONE


@pytest.mark.parametrize(
    ("now", "deadline_seconds", "expected"),
    [(159.0, 60.0, None), (160.0, 60.0, "fix.2"), (9e9, None, None)],
)
def test_the_deadline_counts_from_the_first_start(
    now: float, deadline_seconds: float | None, expected: str | None
) -> None:
    broken = Observation(at=1, checks=False)
    race = [
        candidate(1, RUNNING, 105.0),
        candidate(2, DONE),
        candidate(3, DONE, observation=broken),
        candidate(4, BranchState.WAITING, 0.0),
    ]
    assert overdue_winner(race, deadline_seconds, now) == expected


def test_a_race_that_nobody_has_completed_goes_on() -> None:
    failed = candidate(1, DONE, outcome=Outcome(exit=Exit.MAX_STEPS))
    assert overdue_winner([failed, candidate(2, RUNNING)], 1.0, 1000.0) is None
    assert overdue_winner([candidate(1, BranchState.QUEUED, 0.0)], 1.0, 1000.0) is None


def test_a_race_without_anybody_to_stop_is_left_alone() -> None:
    marked = candidate(2, RUNNING, cancel_reason="fix passed verify")
    assert overdue_winner([candidate(1, DONE), marked], 1.0, 1000.0) is None
