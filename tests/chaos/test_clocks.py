"""Wall clocks that are wrong or jump, in a fleet of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from chaos_fleet import PROCESSES, ChaosFleet, Clocks, Fleets
from verdict import check, check_quiet

Passed = Callable[..., None]
HOUR_SECONDS = 3600


@pytest.fixture(scope="module")
def fleets() -> Iterator[Fleets]:
    if shutil.which("cc") is None:
        pytest.skip("a clock that jumps needs a C compiler")
    kept = Fleets(clocks=True)
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def _quiet(fleets: Fleets) -> Iterator[None]:
    """What a process left whose clock was ahead would come back in an hour."""
    yield

    def check_later(fleet: ChaosFleet) -> None:
        fleet.outdate_unacked()
        check_quiet(fleet)

    fleets.check(check_later)


@pytest.fixture
def clocks(fleet: ChaosFleet) -> Clocks:
    assert fleet.clocks is not None
    return fleet.clocks


@pytest.mark.parametrize("name", PROCESSES)
def test_clock_is_wrong(fleet: ChaosFleet, passed: Passed, clocks: Clocks, name: str) -> None:
    """In one process: an hour ahead from its start, then an hour behind. Recovery works all the same."""
    clocks.set(HOUR_SECONDS, name)
    fleet.restart(name)
    swarm = fleet.begin()
    for steps, hours in ((20, 1), (100, -1)):
        clocks.set(hours * HOUR_SECONDS, name)
        swarm.until_steps(steps)
        blow = swarm.blow("agents-2")
        fleet.kill("agents-2")
        blow.struck()
        fleet.start("agents-2")
        blow.recovered()
    passed(check(swarm, swarm.result(), faults=2))


def test_clock_jumps(fleet: ChaosFleet, passed: Passed, clocks: Clocks) -> None:
    """Of all processes, forth and back in the middle of the work; and recovery works after each of the ways."""
    swarm = fleet.begin()
    for steps, hours in ((15, 1), (40, -1), (90, 24), (120, 0)):
        swarm.until_steps(steps)
        blow = swarm.blow()
        clocks.set(hours * HOUR_SECONDS, *PROCESSES)
        blow.struck().recovered()
        if hours <= 0:
            blow = swarm.blow("agents-2")
            fleet.kill("agents-2")
            blow.struck()
            fleet.start("agents-2")
            blow.recovered()
    passed(check(swarm, swarm.result(), faults=3))
