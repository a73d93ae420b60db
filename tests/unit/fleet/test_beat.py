from __future__ import annotations

from typing import Any

import pytest

from swarmq.fleet.app import make_app
from swarmq.fleet.beat import SteadyScheduler
from swarmq.settings import load_settings

HOUR_SECONDS = 3600.0


class Recorded(SteadyScheduler):
    """Notes what it would send."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.sent: list[str] = []
        super().__init__(*arguments, **options)

    @property
    def producer(self) -> None:
        return None

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        self.sent.append(entry.name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The clock that nobody sets, in seconds."""
    clock = {"now": 1000.0}
    monkeypatch.setattr("swarmq.fleet.beat.time.monotonic", lambda: clock["now"])
    return clock


@pytest.fixture
def scheduler(clock: dict[str, float]) -> Recorded:
    app = make_app(load_settings(), "redis://localhost:1/0")
    app.conf.beat_schedule = {
        name: {"task": f"swarmq.{name}", "schedule": seconds}
        for name, seconds in (("reconcile", 10), ("gc", HOUR_SECONDS))
    }
    return Recorded(app, max_interval=10)


def after(scheduler: Recorded, clock: dict[str, float], seconds: float) -> list[str]:
    clock["now"] += seconds
    scheduler.sent.clear()
    scheduler.tick()
    return scheduler.sent


def test_what_is_seldom_due_comes_soon_after_the_start(scheduler: Recorded, clock: dict[str, float]) -> None:
    """An embedded stack that is idle stops after a quarter of an hour: it would never clean up."""
    assert after(scheduler, clock, 0) == []
    assert "gc" not in after(scheduler, clock, 59)
    assert "gc" in after(scheduler, clock, 1)
    assert "gc" not in after(scheduler, clock, HOUR_SECONDS - 1)
    assert "gc" in after(scheduler, clock, 1)


def test_each_entry_comes_once_in_its_interval(scheduler: Recorded, clock: dict[str, float]) -> None:
    assert after(scheduler, clock, 0) == []
    assert after(scheduler, clock, 9) == []
    assert after(scheduler, clock, 1) == ["reconcile"]
    assert after(scheduler, clock, 0) == []
    assert after(scheduler, clock, 10) == ["reconcile"]
    assert sorted(after(scheduler, clock, HOUR_SECONDS)) == ["gc", "reconcile"]


def test_missed_ticks_do_not_pile_up(scheduler: Recorded, clock: dict[str, float]) -> None:
    after(scheduler, clock, 0)
    after(scheduler, clock, 60)
    assert after(scheduler, clock, 95) == ["reconcile"]
    assert after(scheduler, clock, 5) == []


def test_it_says_when_to_look_again(scheduler: Recorded, clock: dict[str, float]) -> None:
    assert scheduler.tick() == 10
    clock["now"] += 4
    assert scheduler.tick() == 6


def test_a_wall_clock_that_jumps_changes_nothing(
    scheduler: Recorded, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    after(scheduler, clock, 0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr(scheduler.app, "now", lambda: None)
    assert after(scheduler, clock, 10) == ["reconcile"]
