"""Bad input: one line with the way out, nothing started, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Cli

from swarmq.cli import plans, preflight
from swarmq.cli.main import main
from swarmq.cli.preflight import Request, check, check_endpoint, check_state_dir, given_task
from swarmq.errors import EnvironmentFault, StoreError, UsageError
from swarmq.settings import load_settings
from swarmq.store.server import Danger, ServerInfo

pytest_plugins = ["cli_fixtures"]

SCRIPT = "conversations: [{match: Mend, turns: [{text: done}]}]\n"


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def repo(home: Path) -> Path:
    """The working directory, as a clean repository with a script beside it."""
    (home.parent / "s.yaml").write_text(SCRIPT)
    (home / "a.txt").write_text("a\n")
    git(home, "init")
    git(home, "add", "-A")
    git(home, "commit", "-m", "first")
    return home


def request(task: str | None = "Mend it", **parameters: object) -> Request:
    plan_file, repo = parameters.pop("plan_file", None), parameters.pop("repo", None)
    assert plan_file is None or isinstance(plan_file, Path)
    assert repo is None or isinstance(repo, Path)
    no_repo = bool(parameters.pop("no_repo", False))
    return Request(task, repo, no_repo, plan_file, {"model": "scripted:../s.yaml", **parameters})


async def test_a_good_request(repo: Path) -> None:
    checked = await check(request(max_subtasks=7, env=["A=1"]))
    assert checked.options["max_subtasks"] == 7
    assert checked.options["env"] == {"A": "1"}
    assert checked.planner == f"scripted:{repo.parent}/s.yaml"
    assert (checked.spec.task, checked.spec.repo, checked.spec.base_branch) == ("Mend it", str(repo), "main")
    assert checked.can_plan_here


async def test_the_default_model_goes_along(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_MODEL", f"scripted:{repo.parent}/s.yaml")
    checked = await check(request(model=None))
    assert checked.options["model"] == f"scripted:{repo.parent}/s.yaml"


async def test_the_task_may_come_from_standard_input_or_a_plan(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Mend\nthis\n"))
    assert (await check(request(given_task("-")))).spec.task == "Mend\nthis"
    plan = repo.parent / "p.yaml"
    plan.write_text("subtasks: [{name: a, instruction: x}, {name: b, instruction: x}]")
    checked = await check(request(None, plan_file=plan))
    assert checked.spec.task == "a; b"
    assert checked.plan is not None


async def test_a_task_without_files(home: Path) -> None:
    (home.parent / "s.yaml").write_text(SCRIPT)
    checked = await check(request(no_repo=True))
    assert checked.spec.repo is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("",), 2, "the task is empty"),
        ((), 2, "the task is empty"),
        (("t", "--repo", "no/where"), 2, "--repo"),
        (("t", "--repo", ".", "--no-repo"), 2, "exclude each other"),
        (("t", "--strategy", "clever"), 2, "--strategy"),
        (("t", "--max-subtasks", "0"), 2, "--max-subtasks"),
        (("t", "--env", "A"), 2, "--env"),
        (("t", "--model", "gpt"), 2, "ENDPOINT:NAME"),
        (("t", "--model", "nowhere:m"), 2, "nowhere"),
        (("t", "--model", "scripted:missing.yaml"), 2, "missing.yaml"),
        (("t", "--model", "openai:m"), 5, "OPENAI_API_KEY"),
        (("t", "--planner-model", "anthropic:m"), 5, "ANTHROPIC_API_KEY"),
        (("t", "--plan", "missing.yaml"), 2, "missing.yaml"),
    ],
)
def test_bad_input(cli: Cli, repo: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    if "--model" not in arguments:
        arguments = (*arguments, "--model", "scripted:../s.yaml")
    done = cli.run("run", *arguments)
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert cli.client.calls == []
    assert not (repo.parent / "state").exists()
    assert not (repo.parent / "run").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_model_in_a_plan_file(cli: Cli, repo: Path, command: str) -> None:
    plan = repo.parent / "plan.yaml"
    plan.write_text("subtasks: [{name: a, instruction: x, candidates: 2, models: [foo:bar]}]")
    done = cli.run(command, "--plan", str(plan), "--model", "scripted:../s.yaml")
    assert (done.code, done.out, cli.client.calls) == (2, "", [])
    assert done.err.startswith("error: unknown model endpoint 'foo'")


def test_looking_at_a_plan_file_needs_no_key(cli: Cli, repo: Path) -> None:
    plan = repo.parent / "plan.yaml"
    plan.write_text("subtasks: [{name: a, instruction: x, models: [openai:m]}]")
    done = cli.run("plan", "--plan", str(plan))
    assert (done.code, done.err) == (0, "")


def test_looking_at_a_plan_file_needs_no_model(cli: Cli, repo: Path) -> None:
    plan = repo.parent / "plan.json"
    plan.write_text('{"subtasks": [{"name": "Look", "instruction": "Look around"}]}')
    done = cli.run("plan", "--plan", str(plan))
    assert done.code == 0, done.err
    assert "Look around" in done.out


def test_a_plan_is_shown_with_its_declared_files_and_where_they_meet(cli: Cli, repo: Path) -> None:
    plan = repo.parent / "plan.yaml"
    plan.write_text(
        "subtasks:\n"
        "  - {name: Left, instruction: x, files: [src/a.py]}\n"
        "  - {name: Right, instruction: x, files: [src]}\n"
        "  - {name: Look, instruction: x, kind: read}\n"
    )
    done = cli.run("plan", "--plan", str(plan))
    assert done.code == 0, done.err
    assert "note: Declared files overlap, which may end in conflicts: Left and Right (src/a.py, src)." in done.err
    head, *rows = (line.split() for line in done.out.splitlines()[:4])
    assert head[-2:] == ["files", "instruction"]
    assert [row[-2] for row in rows] == ["src/a.py", "src", "-"]
    done = cli.run("plan", "--plan", str(plan), "--declared-overlaps", "order", "--json")
    assert json.loads(done.out)["subtasks"][1]["dependencies"] == ["Left"]


def test_no_model_at_all(cli: Cli, repo: Path) -> None:
    done = cli.run("run", "t")
    assert done.code == 2
    assert "--model" in done.err


@pytest.mark.parametrize("kind", ["none", "bare", "empty", "dirty"])
def test_bad_repositories(cli: Cli, kind: str) -> None:
    (cli.directory.parent / "s.yaml").write_text(SCRIPT)
    match kind:
        case "bare":
            git(cli.directory, "init", "--bare", ".")
        case "empty":
            git(cli.directory, "init")
        case "dirty":
            git(cli.directory, "init")
            git(cli.directory, "commit", "--allow-empty", "-m", "first")
            (cli.directory / "new.txt").write_text("x")
    done = cli.run("run", "t", "--model", "scripted:../s.yaml")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert {"none": "not a git", "bare": "bare", "empty": "no commit", "dirty": "new.txt"}[kind] in done.err


def test_a_plan_that_edits_needs_a_repository(cli: Cli) -> None:
    (cli.directory.parent / "s.yaml").write_text(SCRIPT)
    Path("p.yaml").write_text("subtasks: [{name: a, instruction: x}]")
    done = cli.run("run", "--plan", "p.yaml", "--no-repo", "--model", "scripted:../s.yaml")
    assert (done.code, done.err.startswith("error: --repo: ")) == (2, True)


def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_an_endpoint_that_refuses(cli: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_ENDPOINTS", f'{{"local": {{"base_url": "http://127.0.0.1:{closed_port()}/v1"}}}}')
    done = cli.run("run", "t", "--model", "local:m")
    assert done.code == 5
    assert done.err.startswith("error: model endpoint 'local' at http://127.0.0.1:")
    assert "[endpoints.local]" in done.err
    assert not (repo.parent / "state").exists()


async def test_an_endpoint_that_answers_and_one_behind_a_proxy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("SWARMQ_ENDPOINTS", f'{{"local": {{"base_url": "http://127.0.0.1:{port}"}}}}')
        await check_endpoint(load_settings(), "local:m")
    with pytest.raises(EnvironmentFault):
        await check_endpoint(load_settings(), "local:m")
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    await check_endpoint(load_settings(), "local:m")


async def test_with_a_redis_of_ones_own_the_workers_need_the_keys(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answers(url: str) -> ServerInfo:
        return ServerInfo("redis://localhost:1/0", "redis", "8.0", (Danger("appendonly is off", "set it to yes"),))

    monkeypatch.setattr("swarmq.store.server.check", answers)
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")
    checked = await check(request(model="openai:m"))
    assert not checked.can_plan_here
    said = capsys.readouterr().err
    assert "the workers call the model" in said
    assert said.count("warning: Redis at redis://localhost:1/0: appendonly is off; set it to yes") == 1
    with pytest.raises(EnvironmentFault, match="OPENAI_API_KEY"):
        await check(request(model="openai:m"), runs=False)
    with pytest.raises(UsageError, match="nowhere"):
        await check(request(model="nowhere:m"))


def test_a_redis_that_does_not_answer(cli: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", f"redis://:hunter2@127.0.0.1:{closed_port()}/0")
    done = cli.run("run", "t", "--model", "scripted:../s.yaml")
    assert (done.code, done.err.count("\n")) == (5, 1), done.err
    assert "hunter2" not in done.err
    assert not (repo.parent / "state").exists()


def test_a_state_directory_that_cannot_be_made(cli: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_STATE_DIR", str(repo / "a.txt" / "state"))
    done = cli.run("run", "t", "--model", "scripted:../s.yaml")
    assert (done.code, done.err.count("\n")) == (5, 1), done.err
    assert "SWARMQ_STATE_DIR" in done.err
    assert cli.client.calls == []


def test_looking_at_a_state_directory_leaves_no_file(tmp_path: Path) -> None:
    check_state_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


async def test_a_plan_is_made_by_the_model_or_taken_as_it_is(repo: Path) -> None:
    checked = await check(request(strategy="none"), runs=False)
    made = await plans.make_plan(checked)
    instructions = [subtask.instruction for subtask in made.plan.subtasks]
    assert (instructions, made.note, made.usage.tokens) == (["Mend it"], None, 0)
    assert not (repo.parent / "state").exists()
    given = repo.parent / "p.yaml"
    given.write_text("subtasks: [{name: a, instruction: x}]")
    checked = await check(request(None, plan_file=given), runs=False)
    assert (await plans.make_plan(checked)).plan is checked.plan
    assert checked.spec.id == preflight.PREVIEW_ID


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_tokens": 100}, r"--max-tokens: 100 leaves no room for the planning call, which takes about 4,0\d\d"),
        ({"max_cost_usd": 0.001}, r"--max-cost-usd: 0\.001 leaves no room"),
    ],
)
async def test_no_plan_is_paid_for_that_the_budget_has_no_room_for(
    repo: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], said: str
) -> None:
    price = {"m": {"input_usd_per_mtok": 10, "output_usd_per_mtok": 10}}
    endpoints = {"mine": {"base_url": "http://127.0.0.1:1/v1", "prices": price}}
    monkeypatch.setenv("SWARMQ_ENDPOINTS", json.dumps(endpoints))
    monkeypatch.setattr(preflight, "check_endpoint", reached)
    checked = await check(request(model="mine:m", **limits), runs=False)
    with pytest.raises(UsageError, match=said):
        await plans.make_plan(checked)


async def reached(settings: object, model: str) -> None:
    """Something listens there."""


async def test_a_full_redis_is_told_before_anything_is_planned(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(url: str) -> ServerInfo:
        return ServerInfo("redis://localhost:1/0", "redis", "8.0", used_bytes=11, max_bytes=10)

    monkeypatch.setattr("swarmq.store.server.check", answers)
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")
    with pytest.raises(StoreError, match=r"redis://localhost:1/0 is full .*CONFIG SET maxmemory"):
        await check(request(model="openai:m"))


@pytest.mark.parametrize("command", [("ls",), ("doctor",), ("run", "--yes", "--no-repo", "x", "--model", "openai:m")])
def test_rabbitmq_is_refused_by_every_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "amqp://guest:s3cret@rabbit//")
    code = main(command)
    out, err = capsys.readouterr()
    assert code in (2, 5)
    assert "RabbitMQ, which is not supported" in out + err
    assert "s3cret" not in out + err
