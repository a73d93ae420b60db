from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from cli_fakes import SWARM, Cli

pytest_plugins = ["cli_fixtures"]


def at(second: str, level: str, event: str) -> dict[str, object]:
    return {"timestamp": f"2026-01-01T00:00:{second}Z", "level": level, "event": event}


@pytest.fixture
def log_dir(cli: Cli) -> Path:
    directory = cli.directory.parent / "state" / "stack" / "logs"
    directory.mkdir(parents=True)

    def write(name: str, *lines: object) -> None:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (directory / name).write_text(text)

    write(
        "agents.log",
        {**at("02", "info", "step"), "swarm": SWARM, "branch": "fix-parser", "n": 1},
        "Traceback: \x1b[31m",
        "",
        {"timestamp": "2026-01-01T00:00:04Z", "level": "warning", "event": "late", "swarm": "other"},
    )
    write("control.log", {"timestamp": "2026-01-01T00:00:03Z", "level": "error", "event": "sad", "swarm": SWARM})
    write("agents.log.1", {"timestamp": "2026-01-01T00:00:01Z", "level": "debug", "event": "old"})
    with (directory / "control.log").open("a") as file:
        file.write('{"timestamp": "2026-01-01T00:00:09Z", "event": "half wri')
    return directory


def test_logs_of_all_processes_by_time(cli: Cli, log_dir: Path) -> None:
    out = cli.run("logs").out
    assert [line.split("  ")[-1] for line in out.splitlines()] == ["old", "n=1", "Traceback: �[31m", "sad", "late"]
    assert f"2026-01-01T00:00:02Z  info  agents  {SWARM}/fix-parser  step  n=1" in out


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (("last",), ["step", "sad"]),
        (("last", "fix-parser"), ["step"]),
        (("last", "fix-p"), ["step"]),
        (("--level", "warning"), ["sad", "late"]),
        (("--tail", "1"), ["late"]),
        (("--tail", "0"), []),
        (("--tail", "99", "last"), ["step", "sad"]),
    ],
)
def test_logs_are_chosen(cli: Cli, log_dir: Path, arguments: tuple[str, ...], events: list[str]) -> None:
    out = cli.run("logs", *arguments, "--json").out
    assert [orjson.loads(line)["event"] for line in out.splitlines()] == events


def test_logs_of_a_branch_that_is_not_there_are_refused(cli: Cli, log_dir: Path) -> None:
    done = cli.run("logs", "last", "nope")
    assert (done.code, done.out) == (2, "")
    assert f"swarm {SWARM} has no branch 'nope'; it has fix-parser, fix-dates" in done.err
    assert cli.run("logs", "last", "fix").code == 2


def test_logs_follow(cli: Cli, log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter(range(3))

    def pause(seconds: float) -> None:
        match next(rounds):
            case 0:
                with (log_dir / "control.log").open("a") as file:
                    file.write('tten", "swarm": "x"}\n')
            case 1:
                (log_dir / "beat.log").write_text('{"event": "tick", "timestamp": "2026-01-01T00:00:10Z"}\n')
            case _:
                raise KeyboardInterrupt

    monkeypatch.setattr("swarmq.cli.logs.time.sleep", pause)
    done = cli.run("logs", "--follow", "--tail", "0", "--json")
    assert done.code == 130
    assert [orjson.loads(line)["event"] for line in done.out.splitlines()] == ["half written", "tick"]


def test_no_logs_yet(cli: Cli) -> None:
    done = cli.run("logs")
    assert (done.code, done.out) == (0, "")


def test_logs_of_workers_that_are_not_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")
    done = cli.run("logs")
    assert done.code == 2
    assert "where they run" in done.err


def test_an_unknown_level_is_refused(cli: Cli) -> None:
    assert cli.run("logs", "--level", "loud").code == 2
