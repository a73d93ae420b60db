from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cli_fakes import SWARM, Cli
from typer.main import get_command

from swarmq.cli.exits import ExitCode, of_error, of_result
from swarmq.cli.lazy import ENTRIES
from swarmq.cli.main import app, main
from swarmq.errors import (
    EnvironmentFault,
    LeaseLost,
    NotFoundError,
    OptionError,
    PermanentModelError,
    PlanError,
    StoreError,
    SwarmqError,
    TransientModelError,
    UsageError,
)
from swarmq.models.swarm import SwarmResult, SwarmState

pytest_plugins = ["cli_fixtures"]

HEAVY = ("pydantic", "celery", "kombu", "redis", "rich", "httpx", "git", "yaml", "asyncio", "structlog", "psutil")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom swarmq.cli.main import main\nassert main(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr.strip() == "[]"
    assert all(f"  {name} " in done.stdout for name in ENTRIES)


def test_the_table_of_commands_agrees_with_the_modules() -> None:
    group = get_command(app)
    context = typer.Context(group)
    for name, entry in ENTRIES.items():
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        assert command.name == name
        assert command.help.split("\n")[0] == entry.help, name


@pytest.mark.parametrize("name", list(ENTRIES))
def test_every_command_has_help(cli: Cli, name: str) -> None:
    done = cli.run(name, "--help")
    assert done.code == 0
    assert done.out.startswith("Usage: ")


def test_commands_run_in_a_bare_process_without_importing_celery(tmp_path: Path) -> None:
    """fleet.worker has to prepare the environment before anything imports celery."""
    code = (
        "import sys\nimport swarmq.fleet.worker as worker\n"
        "seen = []\n"
        "worker.run_worker = lambda queues, **options: seen.append((queues, options, 'celery' in sys.modules))\n"
        "from swarmq.cli.main import main\n"
        "assert main(['worker', '-Q', 'control', '-Q', 'agents', '--concurrency', '3', '--pool', 'prefork']) == 0\n"
        "print(seen)"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, env=environment
    )
    assert done.stdout.strip() == "[(['control', 'agents'], {'concurrency': 3, 'pool': 'prefork'}, False)]"


def test_python_m_swarmq_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swarmq", "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.startswith("swarmq ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-command",), "No such command"),
        (("shw",), "Did you mean 'show'"),
        (("ls", "--no-such-option"), "No such option"),
        (("ls", "--limit", "0"), "--limit"),
        (("cancel",), "Missing argument"),
    ],
)
def test_unknown_commands_and_options_are_usage_errors(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = cli.run(*arguments)
    assert done.code == ExitCode.USAGE
    assert said in done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.endswith(" --help)\n")
    assert done.err.count("\n") == 1


def test_without_a_command_there_is_help(cli: Cli) -> None:
    done = cli.run()
    assert done.code == ExitCode.USAGE
    assert "Usage: swarmq [OPTIONS] COMMAND" in done.out + done.err
    assert "error" not in done.err


@pytest.mark.parametrize("arguments", [("--help",), ("config", "show"), ("config", "show", "--json")])
def test_output_that_nobody_reads_ends_a_command_quietly(home: Path, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "swarmq", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE, b"")


def test_a_broken_pipe_amid_a_command_is_no_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(limit: int) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # the parser replaces them
    monkeypatch.setattr(cli.client, "list", broken)
    done = cli.run("ls")
    assert (done.code, done.out, done.err) == (ExitCode.PIPE, "", "")


@pytest.mark.parametrize("module", ["typer", "swarmq.cli.render", "swarmq.cli.run"])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(module: str) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "sys.argv = ['swarmq', 'run', '--help']\n"
        "runpy.run_module('swarmq', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (OptionError("x"), 2),
        (PlanError("x"), 2),
        (NotFoundError("x"), 2),
        (EnvironmentFault("x"), 5),
        (StoreError("x"), 5),
        (TransientModelError("x"), 5),
        (PermanentModelError("x", 401), 5),
        (LeaseLost("x"), 1),
    ],
)
def test_errors_end_with_their_codes(error: SwarmqError, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("state", "limit", "code"),
    [
        (SwarmState.SUCCEEDED, None, 0),
        (SwarmState.SUCCEEDED, "max_total_steps", 0),
        (SwarmState.PARTIAL, None, 3),
        (SwarmState.PARTIAL, "max_total_steps", 4),
        (SwarmState.FAILED, "max_steps_per_subagent", 4),
        (SwarmState.FAILED, None, 1),
        (SwarmState.CANCELLED, "max_total_steps", 1),
    ],
)
def test_results_end_with_their_codes(state: SwarmState, limit: str | None, code: int) -> None:
    assert of_result(SwarmResult(id=SWARM, state=state, report="", limit=limit)) == code


def test_an_error_is_one_line_without_control_characters(cli: Cli) -> None:
    done = cli.run("show", "zzz\x1b[2J\nmore")
    assert done.code == ExitCode.USAGE
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: no swarm")
    assert "\x1b" not in done.err


def test_a_bug_is_one_line_and_a_traceback_only_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(limit: int) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(cli.client, "list", broken)
    done = cli.run("ls")
    assert (done.code, done.err) == (1, "error: unexpected ZeroDivisionError: boom (SWARMQ_DEBUG=1 shows where)\n")
    monkeypatch.setenv("SWARMQ_DEBUG", "1")
    assert "Traceback" in cli.run("ls").err


def test_wrong_settings_are_a_usage_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_LEASE_SECONDS", "soon")
    done = cli.run("ls")
    assert done.code == ExitCode.USAGE
    assert done.err.startswith("error: settings: lease_seconds")


def test_main_reads_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["swarmq", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("swarmq ")
