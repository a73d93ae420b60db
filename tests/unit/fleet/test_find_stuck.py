from __future__ import annotations

import pytest

from swarmq.fleet.reconcile import find_stuck
from swarmq.models.branch import BranchRecord, BranchSpec, BranchState
from swarmq.models.plan import Kind

NOW = 1000.0
RUNNING, QUEUED, WAITING, DONE = BranchState.RUNNING, BranchState.QUEUED, BranchState.WAITING, BranchState.DONE


@pytest.mark.parametrize(
    ("state", "lease_until", "queued_at", "reason", "then"),
    [
        (RUNNING, NOW + 10, 0, None, ""),
        (RUNNING, NOW + 10, 0, "enough", "stop"),
        (RUNNING, NOW - 1, 0, None, "send"),
        (RUNNING, NOW - 1, 0, "enough", "end"),
        (QUEUED, 0, NOW - 5, None, ""),
        (QUEUED, 0, NOW - 50, None, "send"),
        (QUEUED, 0, NOW - 5, "marked while it was given back", "end"),
        (WAITING, 0, NOW - 50, None, ""),
        (DONE, 0, 0, "enough", ""),
    ],
)
def test_who_is_sent_again_stopped_or_ended(
    state: BranchState, lease_until: float, queued_at: float, reason: str | None, then: str
) -> None:
    spec = BranchSpec(swarm_id="swarm", id="a", subtask_id="a", stage=0, kind=Kind.READ, celery_task_id="swarm.a")
    branch = BranchRecord(spec=spec, state=state, lease_until=lease_until, queued_at=queued_at, cancel_reason=reason)
    found = find_stuck([branch], NOW, 30.0)
    assert {name: bool(getattr(found, name)) for name in ("send", "stop", "end")} == {
        name: name == then for name in ("send", "stop", "end")
    }
