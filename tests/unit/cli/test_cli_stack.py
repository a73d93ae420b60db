"""up, down, status and doctor over a made-up stack."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from cli_fakes import SWARM, Cli, branch, fleet_look, record

from swarmq import devstack
from swarmq.cli import checks, fleet_checks, session
from swarmq.devstack import ProcessStatus, StackInfo, StackStatus
from swarmq.errors import EnvironmentFault, PermanentModelError, StoreError, UsageError
from swarmq.models.branch import BranchState
from swarmq.models.messages import Completion, FinishReason, Message, Role, Text, Usage
from swarmq.models.swarm import SwarmState
from swarmq.providers import registry
from swarmq.settings import load_settings
from swarmq.store.health import SwarmLook
from swarmq.store.server import Danger, ServerInfo

pytest_plugins = ["cli_fixtures"]
REAL_CLIENT = session.open_client


def stack(state: str = "running", reason: str = "", worker_seconds: float = 61.0) -> StackStatus:
    worker = ProcessStatus("agents", 42, worker_seconds, 90_000_000, 1, True, Path("/state/logs/agents.log"))
    return StackStatus(
        state=state,
        reason=reason,
        uptime_seconds=75.0,
        processes=(worker,) if state == "running" else (),
        socket=Path("/run/valkey.sock"),
        state_dir=Path("/state"),
        runtime_dir=Path("/run"),
        log_dir=Path("/state/logs"),
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[StackStatus], None]:
    """Sets what the stack is found to be; starting it finds it running."""
    calls = {"waited": False}
    info = StackInfo("redis+socket://:secret@/run/valkey.sock", None, Path("/run"), started=True)
    monkeypatch.setattr(devstack, "up", lambda settings: info)
    monkeypatch.setattr(devstack, "ensure", lambda settings: info)
    monkeypatch.setattr(devstack, "wait_ready", lambda settings: calls.update(waited=True))

    def be(status: StackStatus) -> None:
        monkeypatch.setattr(devstack, "status", lambda settings: status)

    return be


def test_up(cli: Cli, found: Callable[[StackStatus], None]) -> None:
    found(stack())
    done = cli.run("up")
    assert (done.code, done.out) == (0, "the embedded stack is up: 1 processes\n")
    assert "15 min" in done.err
    about = orjson.loads(cli.run("up", "--json").out)
    assert (about["started"], about["processes"][0]["pid"]) == (True, 42)
    assert "secret" not in done.out + done.err


def test_up_says_what_it_restarted_workers_for(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(stack())
    changed = StackInfo("redis+socket://", None, Path("/run"), started=False, changed=("A_KEY", "SWARMQ_ENDPOINTS"))
    monkeypatch.setattr(devstack, "up", lambda settings: changed)
    done = cli.run("up")
    assert done.err.splitlines()[0] == "workers restarted: A_KEY, SWARMQ_ENDPOINTS changed"


def test_up_says_why_it_cannot(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Any) -> StackInfo:
        raise EnvironmentFault("no embedded Valkey for Plan9")

    monkeypatch.setattr(devstack, "up", refuse)
    done = cli.run("up")
    assert (done.code, done.err) == (5, "error: no embedded Valkey for Plan9\n")


def test_down(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(settings: Any, *, force: bool) -> bool:
        if not force:
            raise UsageError("2 unfinished swarm(s) would stop")
        return True

    monkeypatch.setattr(devstack, "down", down)
    assert cli.run("down").code == 2
    assert cli.run("down", "--force").out == "the embedded stack is down\n"
    assert orjson.loads(cli.run("down", "--force", "--json").out) == {"stopped": True}
    monkeypatch.setattr(devstack, "down", lambda settings, *, force: False)
    assert cli.run("down").out == "the embedded stack did not run\n"


@pytest.mark.parametrize("command", ["down", "status"])
def test_wrong_settings_do_not_keep_a_stack_from_being_stopped(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    found(stack())
    monkeypatch.setattr(devstack, "down", lambda settings, *, force: True)
    (cli.directory / "swarmq.toml").write_text("model = \n")
    done = cli.run(command)
    assert done.code == 0
    assert done.err.startswith("warning: settings: swarmq.toml: Invalid value")


def test_status(cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch) -> None:
    found(stack())
    out = cli.run("status").out
    assert "state      running\n" in out
    assert "up for     1 min 15 s\n" in out
    assert "agents   42   1 min 01 s  90 MB   1         yes    /state/logs/agents.log" in out
    assert orjson.loads(cli.run("status", "--json").out)["rss_bytes"] == 90_000_000
    found(stack("failed", "valkey ended"))
    done = cli.run("status")
    assert done.code == 5
    assert "reason     valkey ended" in done.out
    found(stack("stopped"))
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")
    done = cli.run("status")
    assert done.code == 0
    assert "swarmq workers" in done.err


def workers(version: str | None = None) -> list[dict[str, Any]]:
    own = installed("swarmq")
    return [{"queues": [queue], "running": 1, "version": version or own} for queue in fleet_checks.QUEUES]


def by_check(cli: Cli, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = cli.run("doctor", "--json", *arguments)
    return done.code, {finding["check"]: finding for finding in orjson.loads(done.out)}


def test_doctor_of_a_sound_machine(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(stack())
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    cli.client.workers_alive = workers()
    code, findings = by_check(cli)
    assert code == 0
    assert {name for name, finding in findings.items() if finding["status"] != "ok"} == {"model"}
    assert findings["redis"]["said"] == "embedded valkey 9.1 at /run/valkey.sock"
    assert findings["queue agents"]["said"] == "1 worker, 1 task running"
    text = cli.run("doctor").out
    assert "ok    queue control" in text
    assert "warn  model              no default model\n" in text
    assert "→ export SWARMQ_MODEL=openai:NAME" in text


@pytest.mark.parametrize("command", ["doctor", "workers"])
def test_workers_that_have_just_started_get_the_time_to_report(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    found(stack(worker_seconds=0.5))
    reports = [[], workers()[:2], workers()]

    async def next_report() -> list[dict[str, Any]]:
        return reports.pop(0) if len(reports) > 1 else reports[0]

    monkeypatch.setattr(cli.client, "workers", next_report)
    done = cli.run(command)
    assert "no worker is alive" not in done.out + done.err
    assert len(reports) == 1


def test_workers_that_are_long_gone_are_told_of_at_once(cli: Cli, found: Callable[[StackStatus], None]) -> None:
    found(stack())
    assert "no worker is alive" in cli.run("workers").err


def test_doctor_of_one_swarm_explains_it(cli: Cli, found: Callable[[StackStatus], None]) -> None:
    found(stack())
    running = branch("fix-parser", BranchState.RUNNING, lease_until=time.time() + 20, worker="agents@a")
    cli.client.look = fleet_look(
        swarms=[SwarmLook(record(SwarmState.RUNNING, stage=0, result=None), branches=[running])]
    )
    _, findings = by_check(cli, SWARM[:3])
    assert findings["branch"]["said"].startswith("fix-parser: ")
    assert findings["swarm"]["said"].startswith(f"{SWARM} is running; stage 1 of ")
    unknown = cli.run("doctor", "nosuch")
    assert (unknown.code, unknown.err) == (2, "error: no swarm 'nosuch'\n")


def test_doctor_names_what_is_wrong_and_what_mends_it(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(stack())
    danger = Danger("appendonly is off: records are lost", "redis-cli CONFIG SET appendonly yes")
    cli.client.look = fleet_look(
        now=time.time() - 90, server=ServerInfo("/run/valkey.sock", "valkey", "9.1", (danger,)), tick=None
    )
    cli.client.workers_alive = workers("0.0.9")[:2]
    monkeypatch.setenv("SWARMQ_MODEL", "openai:m")
    code, findings = by_check(cli)
    assert code == 5
    assert findings["redis settings"]["remedy"] == "redis-cli CONFIG SET appendonly yes"
    assert findings["beat"]["status"] == "fail"
    assert "1 min 30 s ahead of" in findings["clock"]["said"]
    assert findings["queue agents"] == {
        "check": "queue agents",
        "status": "fail",
        "said": "no worker is alive",
        "remedy": "swarmq down; swarmq up",
        "since": 0.0,
        "swarm": "",
        "branch": "",
    }
    assert findings["versions"]["status"] == "warn"
    assert "OPENAI_API_KEY" in findings["model"]["said"]
    assert findings["model"]["status"] == "fail"
    assert findings["key anthropic"]["status"] == "warn"


def test_doctor_does_not_start_a_stack(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(settings: Any) -> StackInfo:
        raise AssertionError("started")

    found(stack("stopped"))
    monkeypatch.setattr(devstack, "ensure", start)
    code, findings = by_check(cli)
    assert (code, findings["redis"]["status"]) == (0, "ok")
    found(stack("failed", "the supervisor was killed"))
    code, findings = by_check(cli)
    assert (code, findings["redis"]["said"]) == (5, "the embedded stack failed: the supervisor was killed")


def test_doctor_of_a_redis_that_is_away(
    cli: Cli, found: Callable[[StackStatus], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")

    @asynccontextmanager
    async def refused(settings: Any) -> AsyncIterator[None]:
        raise StoreError("Redis at localhost:1 does not answer")
        yield

    monkeypatch.setattr(session, "open_client", refused)
    code, findings = by_check(cli)
    assert (code, findings["redis"]["remedy"]) == (5, "start Redis, or mend SWARMQ_REDIS_URL")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SWARMQ_REDIS_URL", "amqp://u:s3cret@h", "RabbitMQ"),
        ("SWARMQ_REDIS_URL", "redis://:s3cret#@h", "percent-encode"),
        (
            "SWARMQ_REDIS_URL",
            "rediss://:s3cret@h?ssl_ca_certs=/no/file",
            "=/no/file: there is no such file",
        ),
        ("SWARMQ_REDIS_URL_FILE", "/no/url", "redis_url_file /no/url: No such file"),
    ],
)
def test_doctor_of_a_url_that_is_none_is_a_finding_like_any_other(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setattr(session, "open_client", REAL_CLIENT)
    monkeypatch.setenv(variable, value)
    code, findings = by_check(cli)
    assert (code, findings["redis"]["status"]) == (5, "fail")
    assert said in findings["redis"]["said"]
    assert "s3cret" not in str(findings)


def test_doctor_names_a_misspelt_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_LEASE_SECOND", "5")
    monkeypatch.setenv("SWARMQ_DEBUG", "1")
    _, findings = by_check(cli)
    assert findings["variables"]["said"] == "SWARMQ_LEASE_SECOND is no setting"
    assert findings["variables"]["remedy"] == "export SWARMQ_LEASE_SECONDS=…"


def test_doctor_of_wrong_settings(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_LEASE_SECONDS", "soon")
    code, findings = by_check(cli)
    assert code == 5
    assert "lease_seconds" in findings["settings"]["said"]


def test_git_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise EnvironmentFault("git was not found on PATH")

    monkeypatch.setattr("swarmq.workspace.git.require_git", missing)
    assert checks.git().status == "fail"


@pytest.mark.parametrize(("free_bytes", "status"), [(5_000_000_000, "ok"), (500_000_000, "warn"), (5_000, "fail")])
def test_space_that_runs_out(home: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, status: str) -> None:
    monkeypatch.setattr("swarmq.cli.checks.free_bytes", lambda path: free_bytes)
    assert checks.state_dir(load_settings()).status == status


def test_a_state_directory_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("SWARMQ_STATE_DIR", str(home / "file" / "state"))
    finding = checks.state_dir(load_settings())
    assert finding.status == "fail"
    assert "SWARMQ_STATE_DIR" in finding.remedy


class FakeConversation:
    def append(self, message: Message) -> None:
        self.asked = message.text

    async def complete(self, **options: Any) -> Completion:
        if "broken" in FakeModels.opened[-1]:
            raise PermanentModelError("the key was refused", 401)
        answer = Message(role=Role.ASSISTANT, parts=(Text(text="ready"),))
        usage = Usage(input_tokens=14, output_tokens=2)
        return Completion(message=answer, finish=FinishReason.STOP, raw_finish="stop", usage=usage)

    async def aclose(self) -> None:
        FakeModels.closed += 1


class FakeModels:
    opened: ClassVar[list[str]] = []
    closed = 0

    def __init__(self, settings: Any) -> None: ...

    async def open(self, spec: str) -> FakeModels:
        FakeModels.opened.append(spec)
        return self

    def conversation(self, tools: Any) -> FakeConversation:
        return FakeConversation()

    async def aclose(self) -> None:
        FakeModels.closed += 1


async def test_a_test_call_says_what_it_cost(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "Models", FakeModels)
    FakeModels.closed = 0
    finding = await checks.test_call(load_settings(), "openai:m")
    assert finding.status == "ok"
    assert finding.said.endswith("it cost 14 tokens in, 2 out")
    refused = await checks.test_call(load_settings(), "openai:broken")
    assert (refused.status, refused.said) == ("fail", "openai:broken: the key was refused")
    assert FakeModels.closed == 4
