from __future__ import annotations

import asyncio
import io
import sys
from typing import Any

import pytest
from cli_fakes import SWARM, event, story
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from swarmq.cli import live
from swarmq.cli.lines import LINE_CHARACTERS, arguments, describe, line
from swarmq.cli.live import LiveView
from swarmq.cli.progress import RECENT_EVENTS, Progress
from swarmq.cli.render import plain
from swarmq.models.events import Event, EventType


def progress_of(events: list[Event]) -> Progress:
    progress = Progress(SWARM)
    for item in events:
        progress.apply(item)
    return progress


def test_a_swarm_is_gathered_from_its_events() -> None:
    progress = progress_of(story())
    assert (progress.state, progress.stage, progress.stages) == ("succeeded", 0, 2)
    assert (progress.started_at, progress.finished_at) == (1000, 1006)
    assert (progress.steps, progress.tokens) == (1, 1000)
    states = {row.id: row.state for row in progress.branches.values()}
    assert states == {"fix-parser": "merged", "fix-dates": "not run", "run-tests": "not run"}


def test_a_branch_says_what_it_is_doing() -> None:
    progress = progress_of(story()[:7])
    row = progress.branches["fix-parser"]
    assert (row.state, row.steps, row.doing) == ("running", 1, "bash ls")


def test_a_lost_branch_waits_and_resumes() -> None:
    progress = progress_of(story()[:7])
    progress.apply(event(EventType.LEASE_LOST, 1004, "fix-parser", worker="agents@host"))
    assert progress.branches["fix-parser"].state == "queued"
    progress.apply(event(EventType.BRANCH_RESUMED, 1005, "fix-parser", step=2))
    assert progress.branches["fix-parser"].state == "running"


def test_recent_events_are_few_and_leave_out_the_steps() -> None:
    progress = progress_of(story() * 3)
    assert len(progress.recent) == RECENT_EVENTS
    assert not any(" step 1 " in text for text in progress.recent)


@pytest.mark.parametrize(
    ("type_", "data", "said"),
    [
        (EventType.SWARM_PLANNED, {"subtasks": [{"stage": 0}, {"stage": 1}]}, "planned 2 subtasks in 2 stages"),
        (EventType.SWARM_PLANNED, {"subtasks": [{"stage": 0}], "note": "so"}, "planned 1 subtask in 1 stage; so"),
        (EventType.STAGE_STARTED, {"stage": 0, "branches": ["a", "b"]}, "stage 0 started: 2 branches"),
        (EventType.STAGE_STARTED, {"stage": 0, "branches": 1}, "stage 0 started: 1 branch"),
        (
            EventType.STAGE_FINISHED,
            {"stage": 1, "succeeded": 2, "failed": 1, "seconds": 3},
            "stage 1 finished in 3.0 s: 2 succeeded, 1 failed",
        ),
        (EventType.BRANCH_STARTED, {"worker": "w", "delivery": 2}, "started on w, holder 2"),
        (EventType.BRANCH_TOOL_CALL, {"tool": "bash", "input": "ls", "ok": True}, "bash ls"),
        (EventType.BRANCH_TOOL_CALL, {"tool": "bash", "input": "ls", "ok": False, "output": "no"}, "bash ls → no"),
        (EventType.BRANCH_TOOL_CALL, {"tool": "read", "input": '{"file_path":"a","limit":5}'}, "read a 5"),
        (EventType.BRANCH_TOOL_CALL, {"tool": "bash", "input": '{"command":"echo \\"…'}, 'bash echo \\"…'),
        (EventType.BRANCH_TOOL_CALL, {"tool": "bash", "input": "[1]"}, "bash [1]"),
        (EventType.BRANCH_RETRY, {"error": "429", "attempt": 1, "wait_seconds": 0.5}, "retry 1 in 0.5 s: 429"),
        (EventType.BRANCH_FINISHED, {"exit": "failed", "steps": 1, "error": "why"}, "failed after 1 step: why"),
        (EventType.BRANCH_CACHED, {"source": "s/b"}, "taken from the cache (s/b)"),
        (EventType.BRANCH_WAITING, {"leader": "s/b"}, "waiting for equal work in s/b"),
        (EventType.MERGED, {"files": ["a"], "insertions": 2, "deletions": 1}, "merged 1 file, +2 -1"),
        (EventType.CONFLICT, {"files": ["a", "b"]}, "conflict in a, b"),
        (EventType.SWARM_FINISHED, {"state": "failed", "error": "why"}, "ended: failed: why"),
    ],
)
def test_events_read_well(type_: EventType, data: dict[str, Any], said: str) -> None:
    assert describe(event(type_, **data)) == said


@given(
    st.sampled_from(EventType),
    st.dictionaries(
        st.sampled_from(["text", "error", "note", "tool", "input", "state"]), st.text(max_size=400) | st.none()
    ),
)
def test_any_event_is_one_short_line(type_: EventType, data: dict[str, Any]) -> None:
    said = describe(Event(type=type_, at=1, swarm=SWARM, data=data))
    assert len(said) <= LINE_CHARACTERS
    assert said == plain(said)
    assert "\n" not in line(Event(type=type_, at=1, swarm=SWARM, branch="b", data=data))


def test_a_live_view_never_outgrows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    monkeypatch.setattr(live, "console", lambda stream: screen)
    view = LiveView(SWARM)
    for item in story()[:3]:
        view.see(item)
    for number in range(1000):
        view.see(event(EventType.BRANCH_QUEUED, 1001, f"b{number}", stage=0))
    view.see(event(EventType.BRANCH_STARTED, 1002, "b900", worker="w"))
    lines = screen.render_lines(view.render())
    text = "\n".join("".join(segment.text for segment in row) for row in lines)
    assert len(lines) < 24
    assert "b900" in text
    assert "more (" in text
    assert SWARM in text


async def test_a_live_view_draws_in_the_background_and_ends_with_the_last_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    screen = Console(file=stream, width=80, height=24, force_terminal=True, color_system=None)
    monkeypatch.setattr(live, "console", lambda stream: screen)
    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.001)
    async with asyncio.timeout(5), LiveView(SWARM) as view:
        for item in story()[:7]:
            view.see(item)
        while "bash ls" not in stream.getvalue():
            await asyncio.sleep(0)
        for item in story()[7:]:
            view.see(item)
    last_frame = stream.getvalue().rpartition("\x1b[2K")[2]
    assert "merged 1 file" in stream.getvalue()
    assert "ended: succeeded" in last_frame
    assert sys.stderr is not stream


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ('{"file_path":"a.md","content":"# Title\\nText that is c', "a.md  # Title Text that is c"),
        ('{"command": "grep \\"x\\", y", "timeout": 5, "descr', 'grep \\"x\\", y  5, "descr'),
        ('{"n": 1, "text": "whole"}', "1  whole"),
        ("no JSON", "no JSON"),
    ],
)
def test_arguments_are_shown_without_their_json_even_when_cut(raw: str, shown: str) -> None:
    assert arguments(raw) == shown
