from __future__ import annotations

from pathlib import Path

import pytest
from pod_runs import payload_for

from swarmq.pod.payload import Payload, RepositoryAccess
from swarmq.pod.process import with_key, with_password


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """As a named Secret is mounted, with a key that is for the agent's commands."""
    there = tmp_path / "secrets"
    (there / "models").mkdir(parents=True)
    for name in ("MODEL_KEY", "GIT_TOKEN", "REGISTRY_TOKEN"):
        (there / "models" / name).write_text(f"{name}-of-the-secret\n")
    return there


def left(secrets: Path) -> set[str]:
    return {file.name for file in secrets.glob("*/*")}


def cloning(password: str | None) -> Payload:
    url = "https://git.example.com/shop.git"
    access = RepositoryAccess(base_commit="0" * 40, url=url, user="x", password=password, password_env="GIT_TOKEN")
    return payload_for("Write two files", "http://localhost:1", "0" * 40, repository=access)


@pytest.mark.parametrize("given", [None, "sk-of-the-payload"])
def test_no_file_with_the_models_key_is_left_wherever_the_key_comes_from(secrets: Path, given: str | None) -> None:
    payload = payload_for("Look", "http://localhost:1")
    payload = payload.model_copy(update={"model": payload.model.model_copy(update={"api_key": given})})
    assert with_key(payload, secrets).model.api_key == (given or "MODEL_KEY-of-the-secret")
    assert left(secrets) == {"GIT_TOKEN", "REGISTRY_TOKEN"}


@pytest.mark.parametrize("given", [None, "token-of-the-payload"])
def test_no_file_with_the_password_for_git_is_left_either(secrets: Path, given: str | None) -> None:
    found = with_password(cloning(given), secrets).repository
    assert found is not None
    assert found.password == (given or "GIT_TOKEN-of-the-secret")
    assert left(secrets) == {"MODEL_KEY", "REGISTRY_TOKEN"}
