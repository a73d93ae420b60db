from __future__ import annotations

import subprocess
import sys

import pytest

import swarmq


def test_the_public_names_are_these() -> None:
    assert swarmq.__all__ == sorted(swarmq._WHERE)
    assert all(getattr(swarmq, name) is not None for name in swarmq.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Swarm'"):
        _ = swarmq.Swarm


def test_importing_swarmq_loads_nothing_heavy() -> None:
    code = (
        "import sys, swarmq; print([m for m in ('celery', 'redis', 'pydantic', 'httpx', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
