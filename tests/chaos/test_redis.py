"""Redis dies and comes back, or the way to it is cut, slow, or silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chaos_fleet import ChaosFleet, ChaosSwarm
from fleet_stack import until
from verdict import RECOVERY_SECONDS, check

from swarmq.models.swarm import SwarmState
from swarmq.store import keys

Passed = Callable[..., None]
BLACK_HOLE_SECONDS = 3.0
DELAY_SECONDS = 0.1
"""In each direction: 200 ms for a command and its reply."""


def in_planning(swarm: ChaosSwarm) -> None:
    until(lambda: swarm.handle.status().state is not SwarmState.SUBMITTED or None, "planning")


def in_stage(number: int, steps: int) -> Callable[[ChaosSwarm], None]:
    def wait(swarm: ChaosSwarm) -> None:
        swarm.until_stage(number)
        swarm.until_steps(steps)

    return wait


def in_merge(swarm: ChaosSwarm) -> None:
    stage = keys.STAGE(swarm.handle.id, 0)
    until(lambda: swarm.fleet.redis.hget(stage, "state") in (b"advancing", b"finished") or None, "the merge")


def in_finish(swarm: ChaosSwarm) -> None:
    past = (SwarmState.FINISHING, SwarmState.SUCCEEDED)
    until(lambda: swarm.handle.status().state in past or None, "the end")


PHASES = {
    "planning": in_planning,
    "stage 0": in_stage(0, 20),
    "merge": in_merge,
    "stage 1": in_stage(1, 110),
    "finish": in_finish,
}


@pytest.mark.parametrize("phase", PHASES)
def test_redis_killed(fleet: ChaosFleet, passed: Passed, phase: str) -> None:
    """What it had acknowledged is in its append-only file; everything else has to be sent again."""
    swarm = fleet.begin()
    PHASES[phase](swarm)
    blow = swarm.blow()
    fleet.stack.kill_valkey()
    fleet.stack.start_valkey()
    blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1))


def test_connections_cut(fleet: ChaosFleet, passed: Passed) -> None:
    swarm = fleet.begin()
    for stage, steps in ((0, 20), (1, 110)):
        in_stage(stage, steps)(swarm)
        blow = swarm.blow()
        fleet.wire.cut()
        blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=2))


def test_connections_silent(fleet: ChaosFleet, passed: Passed) -> None:
    """A black hole for as long as a lease: nothing is reset, nothing answers."""
    swarm = fleet.begin()
    in_stage(0, 20)(swarm)
    blow = swarm.blow()
    fleet.wire.hold()
    fleet.wire.wait(BLACK_HOLE_SECONDS)
    fleet.wire.release()
    blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS))


def test_connections_slow(fleet: ChaosFleet, passed: Passed) -> None:
    """From the first steps to the end of stage 0: some twenty times as slow as a socket, and nothing is given up."""
    swarm = fleet.begin()
    in_stage(0, 20)(swarm)
    blow = swarm.blow()
    fleet.wire.delay_seconds = DELAY_SECONDS
    blow.struck().recovered()
    swarm.until_stage(1)
    fleet.wire.heal()
    passed(check(swarm, swarm.result(), faults=1))
