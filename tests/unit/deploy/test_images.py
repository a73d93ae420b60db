"""The Dockerfile and the compose file. Building needs a daemon; what they name is checked without one."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered_overlays import ROOT

from swarmq.fleet.app import QUEUES
from swarmq.fleet.worker import GOODBYE_SECONDS
from swarmq.settings import Settings

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
TOP_FIELDS = {"name", "services", "volumes"}
SERVICE_FIELDS = {
    *(
        "build",
        "cap_drop",
        "command",
        "cpus",
        "depends_on",
        "entrypoint",
        "environment",
        "healthcheck",
        "image",
        "init",
        "logging",
    ),
    *("mem_limit", "pids_limit", "ports", "profiles", "read_only", "restart", "security_opt", "stop_grace_period"),
    *("tmpfs", "user", "volumes"),
}
HEALTH_FIELDS = {"interval", "retries", "start_period", "test", "timeout"}
"""Fields of the Compose Specification (compose-spec.io) that the file may use: a misspelt one would be refused."""


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is packaged for Linux")
    done = subprocess.run([hadolint, "-"], input=DOCKERFILE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_images_end_as_another_user_than_root_in_exec_form() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["${UID}:${UID}"]
    assert re.findall(r"^ARG UID=(.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE) == ['["swarmq"]']
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert [name for base, name in stages if base == "system"] == ["agent", "worker"]


def test_the_image_builds_with_the_uv_that_scripts_fetch() -> None:
    (version,) = re.findall(r'^VERSION = "(.*)"$', (ROOT / "scripts" / "uv").read_text(), re.MULTILINE)
    assert f"uv=={version}" in DOCKERFILE


def test_only_the_workers_image_has_the_client_of_kubernetes() -> None:
    (with_client,) = re.findall(r"^RUN (uv sync .*--extra kubernetes)$", DOCKERFILE, re.MULTILINE)
    assert "--no-dev" in with_client
    agent = DOCKERFILE.partition("FROM system AS agent")[2].partition("FROM ")[0]
    assert "COPY --from=packages /opt/swarmq" in agent


def test_the_context_holds_what_the_image_is_built_from() -> None:
    context = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [
        path for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for path in line.split()[:-1]
    ]
    assert set(copied) == context
    assert all((ROOT / path).exists() for path in copied)


def test_the_lock_file_is_in_step() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "uv"), "lock", "--check", "--offline"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "offline" in done.stderr.lower() and "network" in done.stderr.lower():
        pytest.skip("the package index was not asked, and the cache does not know all packages")
    assert done.returncode == 0, done.stderr


def unknown_fields(compose: dict[str, Any]) -> list[str]:
    """Fields that Compose would refuse, as far as this project uses it."""
    found = [name for name in compose if name not in TOP_FIELDS and not name.startswith("x-")]
    for name, service in compose["services"].items():
        found += [f"{name}.{field}" for field in service if field not in SERVICE_FIELDS]
        found += [f"{name}.healthcheck.{field}" for field in service["healthcheck"] if field not in HEALTH_FIELDS]
    return found


def test_compose_knows_every_field() -> None:
    assert unknown_fields(COMPOSE) == []
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["beat"]["comand"] = ["beat"]
    assert unknown_fields(wrong) == ["beat.comand"]


def test_each_service_stands_on_what_there_is() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        named = {volume.split(":")[0] for volume in service.get("volumes", ())}
        assert {volume for volume in named if volume.isalnum()} <= set(COMPOSE["volumes"]), name


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not str(service.get("user", "")).startswith(("0", "root"))  # where there is none, the image's
    assert {"mem_limit", "pids_limit", "healthcheck"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_has_a_worker_for_each_queue_and_time_to_hand_over() -> None:
    workers = {service["command"][2]: service for service in SERVICES.values() if service["command"][:1] == ["worker"]}
    assert workers.keys() >= {"control", "integrate", "agents"}
    assert workers.keys() <= QUEUES.keys()
    given_seconds = [Settings.model_fields[name].default for name in ("handover_seconds", "shutdown_seconds")]
    hand_over_seconds = sum(given_seconds) + GOODBYE_SECONDS
    for service in workers.values():
        assert int(service["stop_grace_period"].removesuffix("s")) >= hand_over_seconds + 10
        assert service["init"] is True


def test_keys_of_models_go_to_agents_alone_and_no_value_is_written_down() -> None:
    for name, service in SERVICES.items():
        variables: dict[str, str | None] = service.get("environment", {})
        assert not [key for key in variables if key.endswith("_API_KEY")] or name == "agents"
        secret = [key for key in variables if re.search(r"PASSWORD|KEY|AUTH|URL", key)]
        assert all("${" in (variables[key] or "${") for key in secret)
