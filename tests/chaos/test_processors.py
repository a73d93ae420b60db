"""The measure of recoveries: what a loaded machine is blamed for, and what not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from processors import Kernel, ProcessorWaits

LEASE_SECONDS = 3.0
PID = 1


@dataclass
class Machine(Kernel):
    """Its clock, and what its kernel keeps."""

    at: float = 0.0
    fleet_seconds: float = 0.0
    pressure: float = 0.0
    threads: tuple[str, ...] = ("1",)

    def now(self) -> float:
        return self.at

    def pressure_seconds(self) -> float:
        return self.pressure

    def waits(self, pids: Iterable[int]) -> dict[tuple[int, str], float]:
        return {(pid, thread): self.fleet_seconds for pid in pids for thread in self.threads}

    def passes(self, seconds: float, fleet_seconds: float = 0.0, pressure_seconds: float = 0.0) -> None:
        self.at += seconds
        self.fleet_seconds += fleet_seconds
        self.pressure += pressure_seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def waits(machine: Machine) -> Iterator[ProcessorWaits]:
    waits = ProcessorWaits(lambda: [PID], machine, sample_seconds=3600)
    yield waits
    waits.close()


def corrected(waits: ProcessorWaits, machine: Machine) -> float:
    recovery = waits.recovery(0.0, machine.at, LEASE_SECONDS)
    assert recovery.seconds == machine.at
    return recovery.corrected_seconds


def sampled(waits: ProcessorWaits, machine: Machine, *spans: tuple[float, float, float]) -> None:
    for span in spans:
        machine.passes(*span)
        waits.recovery(machine.at, machine.at, 0)


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


def test_a_thread_that_has_ended_takes_nothing_back(machine: Machine, waits: ProcessorWaits) -> None:
    sampled(waits, machine, (3, 0, 0), (1, 1, 1))
    machine.threads = ()
    sampled(waits, machine, (1, 0, 1))
    assert corrected(waits, machine) == 4


def test_the_kernel_is_asked_of_this_process() -> None:
    kernel = Kernel()
    assert all(seconds >= 0 for seconds in kernel.waits([os.getpid()]).values())
    assert kernel.waits([]) == {}
    assert 0 <= kernel.pressure_seconds() <= kernel.pressure_seconds()
