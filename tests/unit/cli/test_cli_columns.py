"""Tables at the widths of terminals: what is whole, what is cut, what is left out."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
from cli_fakes import PLAN, Cli, record, result
from hypothesis import given
from hypothesis import strategies as st

from swarmq.cli.columns import GAP_CHARACTERS, fit
from swarmq.cli.plans import print_plan
from swarmq.cli.stack import _print
from swarmq.cli.swarms import print_swarm
from swarmq.devstack import ProcessStatus, StackStatus
from swarmq.models.plan import Plan
from swarmq.models.swarm import SwarmState, SwarmStatus

pytest_plugins = ["cli_fixtures"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    """Standard output as a terminal of that width, without colours. Not a fixture: capsys takes stdout back."""
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def shown(terminal: Terminal, columns: int) -> list[str]:
    lines = [line.rstrip() for line in terminal.getvalue().splitlines()]
    assert max(map(len, lines)) <= columns
    return lines


@given(
    widths=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 60), min_size=1),
    least=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40)),
    spare=st.lists(st.sampled_from("abcdefgh"), unique=True),
    room=st.integers(1, 200),
)
def test_what_is_no_text_keeps_its_width_and_only_spare_columns_go(
    widths: dict[str, int], least: dict[str, int], spare: list[str], room: int
) -> None:
    fitted = fit(widths, room, least, spare)
    assert list(fitted) == [name for name in widths if name in fitted]
    assert set(widths) - set(fitted) <= set(spare)
    for name, width in fitted.items():
        assert min(widths[name], least.get(name, widths[name])) <= width <= widths[name]
    total = sum(fitted.values()) + GAP_CHARACTERS * (len(fitted) - 1)
    if total > room:  # then there was nothing more to cut or to leave out
        assert not set(spare) & set(fitted) or len(fitted) == 0
        assert all(fitted[name] == min(widths[name], least.get(name, widths[name])) for name in fitted)
    elif total < room:
        assert all(fitted[name] == widths[name] for name in fitted)


def test_what_went_for_nothing_comes_back() -> None:
    widths = {"id": 10, "small": 3, "large": 30, "task": 50}
    assert fit(widths, 40, {"task": 20}, ("small", "large")) == {"id": 10, "small": 3, "task": 23}


@pytest.mark.parametrize(
    ("columns", "headers"),
    [
        (60, "id state subtasks task"),
        (80, "id state stage subtasks steps cost task"),
        (120, "id state stage subtasks steps tokens cost submitted task"),
    ],
)
def test_ls(cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int, headers: str) -> None:
    cli.client.statuses = [
        SwarmStatus(
            id="fq758uoabc",
            state=SwarmState.SUCCEEDED,
            task="Port the tests of all three packages to pytest, and mend what they show",
            stage=0,
            stages=1,
            subtasks={"succeeded": 3},
            steps=9,
            tokens=104_343,
            cost_usd=0.1234,
            created_at=time.time() - 303,
        )
    ]
    terminal = a_terminal(monkeypatch, columns)
    cli.run("ls")
    header, row = shown(terminal, columns)
    assert header.split() == headers.split()
    assert row.startswith("fq758uoabc  succeeded  ")
    assert "Port the tests of all" in row
    assert ("$0.1234" in row) == ("cost" in header)


@pytest.mark.parametrize(
    ("columns", "headers"),
    [
        (60, ["subtask", "status", "steps", "note"]),
        (80, ["subtask", "status", "steps", "time", "merge", "note"]),
        (120, ["stage", "subtask", "kind", "status", "steps", "tokens", "time", "merge", "note"]),
    ],
)
def test_show(monkeypatch: pytest.MonkeyPatch, columns: int, headers: list[str]) -> None:
    error = "verify failed: pytest -q tests/test_dates.py exited with 1: 3 failed, 20 passed"
    done = result(SwarmState.PARTIAL)
    rows = tuple(item.model_copy(update={"error": error}) for item in done.subtasks)
    swarm = record(SwarmState.PARTIAL, result=done.model_copy(update={"subtasks": rows}), plan=PLAN)
    terminal = a_terminal(monkeypatch, columns)
    status = SwarmStatus(id="x", state=swarm.state, task="", stage=0, stages=1, created_at=0.0)
    print_swarm(swarm, status, [])
    table = terminal.getvalue().split("\n\n")[1].splitlines()
    assert max(len(line.rstrip()) for line in table) <= columns
    assert table[0].split() == headers
    assert all("succeeded" in line and "verify failed: pytest" in line for line in table[1:])
    assert [line for line in table if "fix parser  succeeded" in line or "fix parser  edit" in line]


@pytest.mark.parametrize(("columns", "left_out"), [(50, {"log", "up for"}), (80, {"log"}), (120, set())])
def test_status(monkeypatch: pytest.MonkeyPatch, columns: int, left_out: set[str]) -> None:
    logs = Path("/var/state/swarmq/logs")
    processes = tuple(
        ProcessStatus(
            name=name,
            pid=1_234_567,
            rss_bytes=123_000_000,
            uptime_seconds=3723,
            restarts=2,
            log=logs / f"{name}.log",
            ready=True,
        )
        for name in ("supervisor", "valkey", "integrate", "guardian")
    )
    terminal = a_terminal(monkeypatch, columns)
    _print(_stack(logs, processes))
    table = terminal.getvalue().split("\n\n")[1].splitlines()
    assert max(len(line.rstrip()) for line in table) <= columns
    assert "…" not in terminal.getvalue()
    headers = ("process", "pid", "up for", "memory", "restarts", "ready", "log")
    assert {header for header in headers if header not in table[0]} == left_out
    assert table[1].split()[:2] == ["supervisor", "1234567"]


def _stack(logs: Path, processes: tuple[ProcessStatus, ...]) -> StackStatus:
    return StackStatus(
        state="running",
        reason="",
        uptime_seconds=3723,
        state_dir=logs.parent,
        runtime_dir=logs.parent,
        socket=logs.parent / "s",
        log_dir=logs,
        processes=processes,
    )


@pytest.mark.parametrize(("columns", "specialty"), [(60, False), (80, False), (120, True)])
def test_a_plan_keeps_its_names_and_the_beginning_of_what_is_to_be_done(
    monkeypatch: pytest.MonkeyPatch, columns: int, specialty: bool
) -> None:
    terminal = a_terminal(monkeypatch, columns)
    instruction = "Mend the parser of dates so that the first of March is one day after the end of February."
    plan = Plan(subtasks=tuple(one.model_copy(update={"instruction": instruction}) for one in PLAN.subtasks))
    print_plan(plan)
    header, *rows = terminal.getvalue().split("\n\n")[0].splitlines()
    assert max(len(row.rstrip()) for row in rows) <= columns
    assert ("specialty" in header) == specialty
    assert all(instruction[:30] in row for row in rows)
    assert {name for name in ("fix parser", "fix dates", "run tests") if any(f"{name}  " in row for row in rows)} == {
        *("fix parser", "fix dates", "run tests")
    }
