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


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("swarmq", ("celery", "redis", "pydantic", "httpx", "rich")),
        ("swarmq.sync_client", ("celery", "kombu", "httpx", "kubernetes", "git")),
    ],
)
def test_imports_load_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
