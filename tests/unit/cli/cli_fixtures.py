"""Fixtures of the command line's tests; modules name this file in ``pytest_plugins``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Cli, FakeClient

from swarmq.cli import session


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings, keys or state, in an empty directory."""
    for name in list(os.environ):
        if name.startswith("SWARMQ_") or name.endswith("_API_KEY") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SWARMQ_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SWARMQ_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(session, "quiet_logs", lambda settings: None)
    return work


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The program with a fake client."""
    client = FakeClient()

    @asynccontextmanager
    async def open_client(settings: Any) -> AsyncIterator[FakeClient]:
        yield client

    monkeypatch.setattr(session, "open_client", open_client)
    return Cli(client, home, capsys.readouterr)
