"""What the client does before it talks to anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmq import AsyncClient, devstack
from swarmq.devstack import StackInfo
from swarmq.errors import StoreError
from swarmq.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name in ("SWARMQ_REDIS_URL", "SWARMQ_REDIS_URL_FILE", "SWARMQ_MODEL", "SWARMQ_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    return load_settings(state_dir=tmp_path / "state", runtime_dir=tmp_path / "run", redis_retry_seconds=0)


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that the embedded stack was asked for, whether this client's variables were brought along.

    Nothing listens at its socket.
    """
    calls: list[bool] = []

    def ensure(settings: Any, *, bring_variables: bool = False) -> StackInfo:
        calls.append(bring_variables)
        changed = ("OPENAI_API_KEY",) if bring_variables else ()
        return StackInfo(f"unix://{tmp_path}/none.sock", None, tmp_path, started=False, changed=changed)

    monkeypatch.setattr(devstack, "ensure", ensure)
    return calls


async def test_only_who_submits_brings_keys_to_the_embedded_workers(
    settings: Settings, brought: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(settings=settings) as client:
        reading: list[Callable[[], Any]] = [client.workers, client.list, lambda: client.get("last"), client.cache_stats]
        for read in reading:
            with pytest.raises(StoreError):
                await read()
        assert (brought, caplog.messages) == ([False], [])
        with pytest.raises(StoreError):
            await client.submit("do it", model="openai:m")
    assert brought == [False, True]
    assert caplog.messages == ["workers restarted: OPENAI_API_KEY changed"]
