"""Fixtures of the git layer's tests; modules name this file in ``pytest_plugins``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from git_samples import FILES, SWARM, head_of, make_repository

from swarmq.workspace.swarm_repository import SwarmRepository


@pytest.fixture
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test depends on the settings of who runs it; the file given is the user's configuration."""
    file = tmp_path / "gitconfig"
    file.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return file


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("template") / "repo"
    make_repository(where, FILES)
    return where


@pytest.fixture
def user(template: Path, tmp_path: Path, own_configuration: Path) -> Path:
    """A user's clean repository with one commit on ``main``."""
    return Path(shutil.copytree(template, tmp_path / "repo", symlinks=True))


@pytest.fixture
def base(user: Path) -> str:
    return head_of(user)


@pytest.fixture
def swarm(user: Path, base: str, tmp_path: Path) -> SwarmRepository:
    """The swarm's side of ``user``; nothing is made yet."""
    return SwarmRepository(tmp_path / "state", SWARM, user, base)
