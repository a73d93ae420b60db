"""One swarm as the doctor explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli_fakes import SWARM, branch, fleet_look, record

from swarmq.cli import stuck
from swarmq.cli.explained import explain
from swarmq.models.branch import BranchRecord, BranchState, Observation
from swarmq.models.swarm import SwarmState
from swarmq.store.health import JobLook, SwarmLook, Tick

NOW = 10_000.0


def told(
    *branches: BranchRecord,
    state: SwarmState = SwarmState.RUNNING,
    jobs: dict[str, JobLook] | None = None,
    **changes: Any,
) -> list[str]:
    """The lines, each with its status."""
    stage = 0 if branches else -1
    changes = {"stage": stage, "result": None, **changes}
    swarm = SwarmLook(record(state, **changes), branches=branches, jobs=jobs or {}, last_event_at=NOW - 5)
    look = fleet_look(now=NOW, tick=Tick(NOW - 5, 10), swarms=[swarm])
    around = stuck.surroundings(look, (), 30, 10, embedded=False)
    return [f"{finding.status} {finding.said}" for finding in explain(swarm, around)]


def running(lease_until: float, **changes: Any) -> BranchRecord:
    return branch("fix-parser", BranchState.RUNNING, lease_until=lease_until, worker="agents@a", **changes)


def rest(lines: Sequence[str]) -> str:
    """The line after that of the swarm, which is the only one."""
    (_, line) = lines
    return line


def test_the_swarm_itself() -> None:
    whole, *_ = told(running(NOW + 20), branch("fix-dates", BranchState.DONE))
    assert whole == f"ok {SWARM} is running; stage 1 of 2: 1 of 2 branches ended; last event 5.0 s ago"


def test_a_branch_that_runs_says_what_it_does_and_with_whom() -> None:
    seen = Observation(at=NOW, steps=4, doing="rate limited")
    line = rest(told(running(NOW + 20, token=3, observation=seen)))
    assert line == (
        "ok fix-parser: step 5, rate limited; with worker agents@a, holder 3, whose lease is good for 20 s more"
    )
    assert "ok fix-parser: begins; with worker" in rest(told(running(NOW + 20, token=1, observation=None)))
    assert "; to be cancelled (enough)" in rest(told(running(NOW + 20, cancel_reason="enough")))


def test_a_branch_that_waits_says_for_what() -> None:
    line = rest(told(branch("a", BranchState.QUEUED, queued_at=NOW - 20)))
    assert line == "ok a: queued 20 s ago: its message waits for a worker of agents"
    line = rest(told(branch("a", BranchState.WAITING)))
    assert line.startswith("ok a: waits until one of ")
    assert line.endswith(" slots is free (max_subagents)")


def test_what_stands_still_is_told_once() -> None:
    line = rest(told(running(NOW - 12)))
    assert line.startswith(f"warn fix-parser of swarm {SWARM}: its lease ended 12 s ago")


def test_a_job_that_is_under_way() -> None:
    line = rest(told(state=SwarmState.PLANNING, jobs={"plan": JobLook("agents@a", NOW + 10)}))
    assert line == "ok plan is under way, with worker agents@a"


def test_a_swarm_that_has_ended() -> None:
    (line,) = told(branch("a", BranchState.QUEUED), state=SwarmState.CANCELLED, finished_at=NOW - 60)
    assert line == f"ok {SWARM} has ended: cancelled 1 min 00 s ago"
