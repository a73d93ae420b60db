"""Processes that are killed, told to go, or stand still for too long."""

from __future__ import annotations

from collections.abc import Callable

from chaos_fleet import ChaosFleet
from verdict import check

Passed = Callable[..., None]


def test_undisturbed(fleet: ChaosFleet, passed: Passed) -> None:
    swarm = fleet.begin()
    passed(check(swarm, swarm.result(), faults=0))
