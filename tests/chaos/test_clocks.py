"""Beats, the order in which processes start, and clocks that are wrong or jump. Then the control: no beat at all."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_fleet import END_SECONDS, PROCESSES, ChaosFleet, Fleets
from fleet_stack import until
from verdict import RECOVERY_SECONDS, START_SECONDS, check, check_recoveries

Passed = Callable[..., None]
HOUR_SECONDS = 3600
WORKERS = tuple(name for name in PROCESSES if name != "beat")
NO_END_SECONDS = 3 * RECOVERY_SECONDS


@pytest.fixture
def _settled(fleets: Fleets) -> Iterator[None]:
    """Its unacknowledged messages may be dated an hour ahead, or take 300 s to come back: it is not used again."""
    yield
    fleets.close()


def test_two_beats(fleet: ChaosFleet, passed: Passed) -> None:
    fleet.stack.start("second-beat", "beat")
    swarm = fleet.begin()
    swarm.until_steps(20)
    blow = swarm.blow("agents-1")
    fleet.kill("agents-1")
    blow.struck()
    fleet.start("agents-1")
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=1))


@pytest.mark.usefixtures("_settled")
def test_beat_comes_late(fleet: ChaosFleet, passed: Passed) -> None:
    """Nothing is lost meanwhile: the branches of a killed worker wait."""
    fleet.kill("beat")
    fleet.restart(*WORKERS, SWARMQ_VISIBILITY_TIMEOUT_SECONDS="300")
    swarm = fleet.begin()
    swarm.until_steps(20)
    blow = swarm.blow("agents-1", "agents-2")
    fleet.restart("agents-1", "agents-2", SWARMQ_VISIBILITY_TIMEOUT_SECONDS="300")
    fleet.wire.wait(RECOVERY_SECONDS)
    blow.struck()
    fleet.start("beat")
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS + START_SECONDS))


@pytest.mark.parametrize("order", [(*WORKERS, "beat"), ("beat", *reversed(WORKERS))], ids=["beat last", "beat first"])
@pytest.mark.parametrize("redis", ["redis first", "redis last"])
def test_start_order(fleet: ChaosFleet, passed: Passed, order: tuple[str, ...], redis: str) -> None:
    """The swarm waits in Redis before any process runs."""
    fleet.kill(*PROCESSES)
    swarm = fleet.begin()
    if redis == "redis last":
        fleet.stack.kill_valkey()
    fleet.start(*order)
    if redis == "redis last":
        for name in order:
            if name != "beat":
                until(lambda name=name: "Error" in fleet.stack.log(name) or None, f"{name}'s complaint")  # type: ignore[misc]
        fleet.stack.start_valkey()
    blow = swarm.blow(pids=()).struck()
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=0, bound_seconds=RECOVERY_SECONDS + 2 * START_SECONDS))


class Clocks:
    """Wall clocks of processes that are started with ``variables``: off by what ``set`` says, from that moment on."""

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "offset"
        self.set(0)
        library = directory / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        self.variables = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set(self, seconds: int) -> None:
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    if shutil.which("cc") is None:
        pytest.skip("a clock that jumps needs a C compiler")
    return Clocks(tmp_path)


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("name", PROCESSES)
def test_clock_is_wrong(fleet: ChaosFleet, passed: Passed, clocks: Clocks, name: str, hours: int) -> None:
    """An hour off, in one process; and recovery works all the same."""
    clocks.set(hours * HOUR_SECONDS)
    fleet.restart(name, **clocks.variables)
    swarm = fleet.begin()
    swarm.until_steps(20)
    blow = swarm.blow("agents-2")
    fleet.kill("agents-2")
    blow.struck()
    fleet.start("agents-2")
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=1))


@pytest.mark.usefixtures("_settled")
def test_clock_jumps(fleet: ChaosFleet, passed: Passed, clocks: Clocks) -> None:
    """Of all processes, forth and back in the middle of the work."""
    fleet.restart(*PROCESSES, **clocks.variables)
    swarm = fleet.begin()
    for steps, hours in ((15, 1), (40, -1), (90, 24), (120, 0)):
        swarm.until_steps(steps)
        blow = swarm.blow()
        clocks.set(hours * HOUR_SECONDS)
        blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1))


CONTROLS = ("message lost", "worker killed")


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("fault", CONTROLS)
def test_control_without_reconcile(fleet: ChaosFleet, passed: Passed, fault: str) -> None:
    """Without beat the swarm must not end: what the other tests show is the work of reconcile, and of nothing else.

    And the recovery that begins when beat is back is late by their measure.
    """
    fleet.kill("beat")
    fleet.restart(*WORKERS, SWARMQ_VISIBILITY_TIMEOUT_SECONDS="300")
    numbers = itertools.count(1)
    if fault == "message lost":
        fleet.wire.publish = lambda queue, message: [] if next(numbers) == 5 else [message]
    swarm = fleet.begin()
    if fault == "worker killed":
        swarm.until_steps(20)
        blow = swarm.blow("agents-1")
        fleet.restart("agents-1", SWARMQ_VISIBILITY_TIMEOUT_SECONDS="300")
        blow.struck()
    with pytest.raises(TimeoutError):
        swarm.handle.result(NO_END_SECONDS)
    fleet.start("beat")
    if fault == "worker killed":
        blow.recovered()
    result = swarm.result()
    swarm.note_pause()
    with pytest.raises(AssertionError, match="recovery took"):
        check_recoveries(swarm, RECOVERY_SECONDS)
    passed(check(swarm, result, faults=1, bound_seconds=END_SECONDS))
