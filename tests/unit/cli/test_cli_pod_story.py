"""What `swarmq show SWARM BRANCH` tells of the branch's pods."""

from __future__ import annotations

import pytest

from swarmq.cli.pod_story import PodStory, pod_pairs, pod_rows, pod_story
from swarmq.models.events import Event, EventType


def told(at: float, notice: str, branch: str = "fix", **data: object) -> Event:
    return Event(type=EventType.BRANCH_POD, swarm="s1", branch=branch, at=at, data={"notice": notice, **data})


RUNS = told(20, "runs on node-1", uid="u1", pod="p1", node="node-1", phase="Running")
FULL = "FailedScheduling: no room"


def story(*events: Event, ended: bool = False) -> PodStory:
    found = pod_story(events, "fix", ended=ended)
    assert found is not None
    return found


def test_nothing_was_told_of_it() -> None:
    other = Event(type=EventType.BRANCH_STARTED, swarm="s1", branch="fix", at=1, data={})
    assert pod_story([other, told(2, "runs on node-1", branch="other")], "fix", ended=False) is None


def test_the_newest_pod_counts_and_what_is_told_again_stands_once() -> None:
    queue = told(1, "waiting for a pod")
    again = [told(at, FULL, uid="u1", pod="p1", phase="Pending", count=count) for at, count in ((2, 1), (9, 3))]
    lost = told(30, "ended: its node was lost", uid="u1", pod="p1", node="node-1", phase="Failed", reason="node_lost")
    next_one = told(40, "runs on node-2", uid="u2", pod="p1", node="node-2", phase="Running")
    found = story(queue, *again, RUNS, lost, next_one)
    assert (found.name, found.node, found.phase, found.pods) == ("p1", "node-2", "Running", 2)
    notices = ["waiting for a pod", FULL, "runs on node-1", "ended: its node was lost", "runs on node-2"]
    assert [line.notice for line in found.notices] == notices
    assert (found.notices[1].at, found.notices[1].count) == (9, 3)
    assert pod_rows(found.notices[1:2], now=69.0) == [("1 min 00 s ago", f"{FULL} (3 times)")]


@pytest.mark.parametrize(("phase", "shown"), [("Running", ""), ("Pending", ""), ("Failed", "Failed"), ("", "")])
def test_a_branch_that_has_ended_has_no_running_pod(phase: str, shown: str) -> None:
    last = told(20, "the last word", uid="u1", pod="p1", phase=phase)
    assert story(last).phase == phase
    assert story(last, ended=True).phase == shown


def test_before_there_is_a_pod() -> None:
    assert pod_pairs(story(told(1, "waiting for a pod, 3 in the queue"))) == [("pod", "none yet")]


def test_where_it_runs() -> None:
    assert pod_pairs(story(RUNS)) == [("pod", "p1 on node-1"), ("pod's phase", "Running (as last seen)")]
    assert pod_pairs(story(RUNS, ended=True)) == [("pod", "p1 on node-1")]
