from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from swarmq.crash_points import CrashPoint, Trap, arm, armed, reached
from swarmq.settings import load_settings


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("swarmq.crash_points._traps", None)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.fixture
def file(tmp_path: Path, signals: list[tuple[int, int]]) -> Path:
    """The process is armed with a file that is not there yet."""
    arm(tmp_path / "trap")
    return tmp_path / "trap"


def come_by(times: int = 1) -> None:
    for _ in range(times):
        reached(CrashPoint.PLAN_SENT)
        reached(CrashPoint.TOOLS_RUN)


def test_nothing_happens_in_a_process_that_is_not_armed(signals: list[tuple[int, int]]) -> None:
    arm(load_settings().crash_file)
    for point in CrashPoint:
        reached(point)
    assert signals == []
    assert not armed()


def test_a_trap_springs_once_at_its_point(file: Path, signals: list[tuple[int, int]]) -> None:
    come_by(3)
    assert signals == [], "no trap was set"
    file.write_text("tools_run:stop:2")
    come_by()
    assert signals == []
    come_by(3)
    assert signals == [(os.getpid(), signal.SIGSTOP)]
    assert not file.exists()
    assert file.with_name(f"trap.{os.getpid()}").exists()


def test_it_springs_in_one_process_alone(file: Path, signals: list[tuple[int, int]]) -> None:
    file.write_text("tools_run")
    come_by()
    arm(file)  # another process, which comes by later
    come_by()
    assert signals == [(os.getpid(), signal.SIGKILL)]


def test_the_next_trap_is_counted_anew(file: Path, signals: list[tuple[int, int]]) -> None:
    file.write_text("tools_run:kill:3")
    come_by(2)
    made = file.with_name("next")
    made.write_text("tools_run:kill:3")
    os.utime(made, ns=(1, 1))
    made.replace(file)
    come_by(2)
    assert signals == []
    come_by()
    assert signals == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize("text", ["nowhere", "tools_run:maim", "tools_run:kill:0", "tools_run:kill:x"])
def test_a_trap_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no crash point|is not POINT"):
        Trap.parse(text)
