"""Probe files of real processes that start while Redis is away, as a kubelet would look at them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_stack import FleetStack, running_fleet, until

LONG_AGO = 1_000_000_000.0
COMMANDS = {"worker": ("worker", "--queue", "control"), "beat": ("beat",)}
WAITS = {"worker": "Cannot connect to", "beat": "Connection error"}
POD = {"SWARMQ_POD_NAME": "pod-0", "SWARMQ_POD_NAMESPACE": "swarms"}


@pytest.fixture(scope="module")
def fleet() -> Iterator[FleetStack]:
    with running_fleet(start=False, SWARMQ_HEARTBEAT_SECONDS="0.2") as running:
        yield running


def left_behind(path: Path) -> None:
    """As by a process that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (LONG_AGO, LONG_AGO))


def until_touched(path: Path, since: float) -> float:
    """When it was, after that moment."""

    def look() -> float | None:
        return path.stat().st_mtime if path.exists() and path.stat().st_mtime > since else None

    return until(look, f"{path} to be touched")


def test_they_live_while_redis_is_away_and_forget_what_others_left(fleet: FleetStack) -> None:
    fleet.kill_valkey()
    probes = {name: fleet.root / name / "probes" for name in COMMANDS}
    presence = fleet.root / "worker" / "workers"
    left_behind(presence / "control-abc123@pod-0.swarms.pod.json")
    for name, command in COMMANDS.items():
        left_behind(probes[name] / "alive")
        left_behind(probes[name] / "ready")
        variables = {"SWARMQ_PROBE_DIR": str(probes[name]), "SWARMQ_RUNTIME_DIR": str(fleet.root / name)}
        fleet.start(name, *command, **variables, **POD)
    for name, directory in probes.items():
        at = until_touched(directory / "alive", LONG_AGO)
        assert not (directory / "ready").exists(), name
        until(lambda name=name: WAITS[name] in fleet.log(name), f"{name} to wait for Redis")  # type: ignore[misc]
        for _ in range(3):
            at = until_touched(directory / "alive", at)
    assert list(presence.glob("*.json")) == []
    fleet.start_valkey()
    until((probes["worker"] / "ready").exists, "the worker to be ready")
    assert len(list(presence.glob("*.json"))) == 1
    until(lambda: "Sending due task" in fleet.log("beat"), "beat to send")


def test_they_live_while_redis_is_away_again(fleet: FleetStack) -> None:
    """Beat then tries to send one tick for more than a minute, and the next one after it."""
    fleet.kill_valkey()
    for name in COMMANDS:
        at = 0.0
        for _ in range(4):
            at = until_touched(fleet.root / name / "probes" / "alive", at)
    fleet.start_valkey()
