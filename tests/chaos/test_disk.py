"""The disk under the worktrees is full for a while."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_fleet import ChaosFleet
from verdict import RECOVERY_SECONDS, check

Passed = Callable[..., None]
DISK_MB = 64
FULL_SECONDS = 1.0
CHUNK = b"\0" * 65536


@pytest.fixture
def small_disk(fleet: ChaosFleet) -> Iterator[Path]:
    """The directory of the clones and worktrees, on a file system of its own."""
    directory = fleet.stack.root / "state" / "swarms"
    directory.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(directory)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(CHUNK)


def test_disk_full(fleet: ChaosFleet, small_disk: Path, passed: Passed) -> None:
    swarm = fleet.begin()
    swarm.until_steps(20)
    blow = swarm.blow()
    fill(small_disk / "ballast")
    fleet.wire.wait(FULL_SECONDS)
    (small_disk / "ballast").unlink()
    blow.struck().recovered()
    passed(check(swarm, swarm.result(), faults=1, bound_seconds=RECOVERY_SECONDS))
