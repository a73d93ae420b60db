from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from swarmq import crash_points
from swarmq.crash_points import CrashPoint, Trap, arm, reached
from swarmq.errors import OptionError
from swarmq.settings import load_settings


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(crash_points, "_trap", None)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_nothing_happens_in_a_process_that_is_not_armed(signals: list[tuple[int, int]]) -> None:
    for point in CrashPoint:
        reached(point)
    assert signals == []


def test_a_trap_springs_once_at_its_point(signals: list[tuple[int, int]], tmp_path: Path) -> None:
    for _ in range(2):  # two processes that know the marker
        trap = Trap.parse("tools_run:stop:2")
        trap.marker = tmp_path / "marker"
        arm(trap)
        for _ in range(3):
            reached(CrashPoint.PLAN_SENT)
            reached(CrashPoint.TOOLS_RUN)
    assert signals == [(os.getpid(), signal.SIGSTOP)]
    assert (tmp_path / "marker").read_text() == str(os.getpid())


@pytest.mark.parametrize("text", ["nowhere", "tools_run:maim", "tools_run:kill:0", "tools_run:kill:x"])
def test_a_point_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(OptionError, match="crash_point"):
        load_settings(crash_point=text)


def test_no_trap_without_the_setting() -> None:
    assert load_settings().trap() is None
    trap = load_settings(crash_point="tools_run").trap()
    assert trap is not None
    assert (trap.signal, trap.nth) == (signal.SIGKILL, 1)
