"""Beats, and the order in which processes start. Then the control: no beat at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from chaos_fleet import END_SECONDS, PROCESSES, ChaosFleet
from fleet_stack import until
from verdict import RECOVERY_SECONDS, START_SECONDS, check, check_recoveries

Passed = Callable[..., None]
WORKERS = tuple(name for name in PROCESSES if name != "beat")
NO_END_SECONDS = 3 * RECOVERY_SECONDS


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


def test_beat_comes_late(fleet: ChaosFleet, passed: Passed) -> None:
    """Nothing is lost meanwhile: the branches of killed workers wait."""
    fleet.kill("beat")
    fleet.keep_unacked()
    swarm = fleet.begin()
    swarm.until_steps(20)
    blow = swarm.blow("agents-1", "agents-2")
    fleet.restart("agents-1", "agents-2")
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
    before = {name: len(fleet.stack.log(name)) for name in WORKERS}

    def all_complain() -> bool | None:
        return all("Error" in fleet.stack.log(name)[before[name] :] for name in WORKERS) or None

    fleet.start(*order)
    if redis == "redis last":
        until(all_complain, "complaints of all workers")
        fleet.stack.start_valkey()
    blow = swarm.blow(pids=()).struck()
    blow.recovered()
    passed(check(swarm, swarm.result(), faults=0, bound_seconds=RECOVERY_SECONDS + 2 * START_SECONDS))


CONTROLS = ("message lost", "worker killed")


@pytest.mark.parametrize("fault", CONTROLS)
def test_control_without_reconcile(fleet: ChaosFleet, passed: Passed, fault: str) -> None:
    """Without beat the swarm must not end: what the other tests show is the work of reconcile, and of nothing else.

    And the recovery that begins when beat is back is late by their measure.
    """
    fleet.kill("beat")
    fleet.keep_unacked()
    numbers = itertools.count(1)
    if fault == "message lost":
        fleet.wire.publish = lambda queue, message: [] if next(numbers) == 5 else [message]
    swarm = fleet.begin()
    if fault == "worker killed":
        swarm.until_steps(20)
        blow = swarm.blow("agents-1")
        fleet.restart("agents-1")
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
