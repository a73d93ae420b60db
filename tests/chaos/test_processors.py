"""The measure of recoveries: what a loaded machine is blamed for, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import processors
import pytest
from processors import ProcessorWaits

LEASE_SECONDS = 3.0
PID = 1


@dataclass
class Machine:
    """Its clock, and what its kernel keeps."""

    now: float = 0.0
    fleet_seconds: float = 0.0
    pressure_seconds: float = 0.0

    def passes(self, seconds: float, fleet_seconds: float = 0.0, pressure_seconds: float = 0.0) -> None:
        self.now += seconds
        self.fleet_seconds += fleet_seconds
        self.pressure_seconds += pressure_seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(processors, "SAMPLE_SECONDS", 3600)
    monkeypatch.setattr(processors, "pressure_seconds", lambda: machine.pressure_seconds)
    monkeypatch.setattr(processors, "thread_waits", lambda pid: [((pid, "1"), machine.fleet_seconds)])
    monkeypatch.setattr("processors.time.monotonic", lambda: machine.now)
    return machine


@pytest.fixture
def waits(machine: Machine) -> Iterator[ProcessorWaits]:
    waits = ProcessorWaits(lambda: [PID])
    yield waits
    waits.close()


def corrected(waits: ProcessorWaits, machine: Machine) -> float:
    recovery = waits.recovery(0.0, machine.now, LEASE_SECONDS)
    assert recovery.seconds == machine.now
    return recovery.corrected_seconds


def sampled(waits: ProcessorWaits, machine: Machine, *spans: tuple[float, float, float]) -> None:
    for span in spans:
        machine.passes(*span)
        waits.recovery(machine.now, machine.now, 0)


def test_waits_after_the_lease_are_taken_off(machine: Machine, waits: ProcessorWaits) -> None:
    sampled(waits, machine, (3, 2, 2), (2, 1.5, 1.8))
    assert corrected(waits, machine) == 3.5


def test_no_more_than_the_machine_was_short_of_processors(machine: Machine, waits: ProcessorWaits) -> None:
    """Threads that wait beside each other make a long sum."""
    sampled(waits, machine, (3, 0, 0), (2, 40, 0.5))
    assert corrected(waits, machine) == 4.5


def test_no_more_than_has_passed(machine: Machine, waits: ProcessorWaits) -> None:
    sampled(waits, machine, (3, 0, 0), (2, 40, 40))
    assert corrected(waits, machine) == 3


def test_a_fleet_that_stands_still_is_excused_nothing(machine: Machine, waits: ProcessorWaits) -> None:
    sampled(waits, machine, (3, 0, 3), (10, 0, 10))
    assert corrected(waits, machine) == 13


def test_each_sample_counts_for_itself(machine: Machine, waits: ProcessorWaits) -> None:
    """The fleet waited while the machine was idle (as others see it), and the other way round: that is no wait."""
    sampled(waits, machine, (3, 0, 0), (2, 2, 0), (2, 0, 2))
    assert corrected(waits, machine) == 7


def test_a_thread_that_has_ended_takes_nothing_back(
    machine: Machine, waits: ProcessorWaits, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(waits, machine, (3, 0, 0), (1, 1, 1))
    monkeypatch.setattr(processors, "thread_waits", lambda pid: [])
    sampled(waits, machine, (1, 0, 1))
    assert corrected(waits, machine) == 4
