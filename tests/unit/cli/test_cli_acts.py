"""transcript, diff, merge, retry, pause, cancel and what looks after the machine."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import orjson
import pytest
from cli_fakes import SWARM, Cli, branch, record, result

from swarmq.cli.conversation import CUT_LINES
from swarmq.errors import EnvironmentFault
from swarmq.models.branch import Exit, Outcome
from swarmq.models.messages import FinishReason, Message, Role, Text, Thinking, ToolCall, ToolResult, Usage, user
from swarmq.models.swarm import SwarmState
from swarmq.models.transcript import Entry

pytest_plugins = ["cli_fixtures"]


def conversation() -> list[Entry]:
    call = ToolCall(id="1", name="bash", arguments='{"command": "ls", "timeout": 5}')
    bad = ToolCall(id="2", name="write\x1b", arguments='{"file_path": ')
    many = "\n".join(f"line {number}" for number in range(CUT_LINES + 10))
    answer = (Thinking(text="hm", dialect="openai", opaque="{}"), Text(text="I look."), call, bad)
    results = (
        ToolResult(call_id="1", name="bash", content=many),
        ToolResult(call_id="2", name="write", content="not JSON", is_error=True),
    )
    usage = Usage(input_tokens=1500, output_tokens=20, cached_tokens=1000)
    return [
        Entry(step=0, at=1, message=user("Do it.")),
        Entry(step=1, at=2, message=Message(role=Role.ASSISTANT, parts=answer), usage=usage, seconds=1.5),
        Entry(step=1, at=3, message=Message(role=Role.TOOL, parts=results)),
        Entry(step=2, at=4, message=Message(role=Role.ASSISTANT, parts=()), finish=FinishReason.LENGTH),
    ]


def test_transcript(cli: Cli) -> None:
    cli.client.entries = conversation()
    out = cli.run("transcript", "last", "fix-p").out
    assert cli.client.calls == [("transcript", "fix-parser")]
    assert "· 1,500 tokens in (1,000 cached), 20 out · 1.5 s ──" in out
    assert '  ~ hm\nI look.\n→ bash\n    command: ls\n    timeout: 5\n→ write�\n    {"file_path":' in out
    assert f"    line {CUT_LINES - 1}\n    … " in out
    assert "--full shows them" in out
    assert "← write (error)\n    not JSON" in out
    assert "step 2 · " in out
    assert "length" in out
    whole = cli.run("transcript", "last", "fix-p", "--full").out
    assert f"line {CUT_LINES + 9}" in whole
    assert "--full" not in whole
    assert len(orjson.loads(cli.run("transcript", "last", "fix-p", "--json").out)) == 4


def test_an_empty_transcript_says_why(cli: Cli) -> None:
    cached = Outcome(exit=Exit.COMPLETED, cached_from="earlier000/mend.2")
    for outcome, said in (
        (None, "nothing was said yet\n"),
        (Outcome(exit=Exit.CANCELLED), "nothing was said\n"),
        (cached, "taken from the cache: swarmq transcript earlier000 mend.2\n"),
    ):
        cli.client.branch_records = [branch("task").model_copy(update={"outcome": outcome})]
        done = cli.run("transcript", "last")
        assert (done.code, done.out, done.err) == (0, "", said)
        assert cli.run("transcript", "last", "--json").out == "[]\n"


def test_a_transcript_tells_what_was_said_in_an_earlier_swarm(cli: Cli) -> None:
    said, *others = conversation()
    cli.client.entries = [said.model_copy(update={"adopted_from": "earlier000/fix-parser"}), *others]
    out = cli.run("transcript", "last", "fix-p").out
    assert out.count(" · in earlier000/fix-parser ──") == 1


def test_transcript_needs_a_branch_where_there_are_several(cli: Cli) -> None:
    done = cli.run("transcript", "last")
    assert done.code == 2
    assert "fix-parser, fix-dates" in done.err
    cli.client.branch_records = [branch("task")]
    assert cli.run("transcript", "last").code == 0
    assert cli.client.calls == [("transcript", "task")]


def test_diff_is_byte_for_byte_off_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="utf-8"))
    assert cli.run("diff").code == 0
    sys.stdout.flush()
    assert pipe.getvalue() == b"diff --git a/x b/x\n+caf\xe9\n"


def test_diff(cli: Cli) -> None:
    cli.client.diff = "diff --git a/x b/x\n+a\n"
    cli.run("diff", "last", "fix-p", "--stat")
    assert cli.client.calls == [("diff", "fix-parser", True)]
    assert orjson.loads(cli.run("diff", "--json").out) == {"swarm": SWARM, "branch": None, "diff": cli.client.diff}
    cli.client.diff = ""
    done = cli.run("diff")
    assert (done.out, done.err) == ("", "no change\n")


def test_diff_on_a_terminal_is_coloured_and_harmless(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.client.diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\x1b[2J [red]\n"
    monkeypatch.setattr("swarmq.cli.branches.is_terminal", lambda stream: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = cli.run("diff").out
    assert "\x1b[32m+new�[2J [red]" in out
    assert "\x1b[31m-old" in out


def test_merge(cli: Cli) -> None:
    assert cli.run("merge").out == f"main is now at cccccccccc, the result of swarm {SWARM}, in /repo\n"
    done = cli.run("merge", SWARM, "--into", "dev", "--json")
    assert orjson.loads(done.out) == {
        "swarm": SWARM,
        "repository": "/repo",
        "branch": "dev",
        "commit": "c" * 40,
    }
    assert cli.client.calls == [("merge", None), ("merge", "dev")]


def test_retry(cli: Cli) -> None:
    refused = cli.run("retry", SWARM)
    assert (refused.code, cli.client.calls) == (2, [])
    assert f"swarmq retry {SWARM} --failed" in refused.err
    done = cli.run("retry", SWARM, "--failed")
    assert done.code == 0
    assert "swarm n3w0000000; Ctrl-C leaves it running" in done.err
    assert done.out.startswith("## Report")
    assert cli.run("retry", "--failed", "--detach").out == "n3w0000000\n"
    told = orjson.loads(cli.run("retry", "--failed", "-d", "--json").out)
    assert told["id"] == "n3w0000000"
    assert [(one["subtask_id"], one["how"], one["step"]) for one in told["subtasks"]] == [
        ("fix-parser", "cached", 0),
        ("fix-dates", "continued", 5),
        ("run-tests", "anew", 0),
    ]


def test_retry_says_where_each_subtask_comes_from(cli: Cli) -> None:
    lines = cli.run("retry", "--failed").err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:3]] == [
        "from the cache: it succeeded",
        "continues at step 5: it was cancelled",
        "starts anew: it had not begun",
    ]


def test_a_retry_that_joins_a_swarm_says_so_and_promises_nothing(cli: Cli) -> None:
    done = cli.run("retry", "--failed", "-d", "--json", "--idempotency-key", "known")
    assert orjson.loads(done.out) == {"id": "n3w0000000", "joined": True, "subtasks": []}
    assert "joined swarm n3w0000000" in done.err
    assert "from the cache" not in done.err


def test_retry_changes_options(cli: Cli) -> None:
    assert cli.run("retry", "--failed", "--anew", "--max-total-steps", "9", "--env", "A=1").code == 0
    assert cli.client.calls == [("retry", True, {"max_total_steps": 9, "env": {"A": "1"}})]
    done = cli.run("retry", "--failed", "--max-total-steps", "0")
    assert done.code == 2
    assert done.err.startswith("error: --max-total-steps: ")
    assert len(done.err.splitlines()) == 1
    assert len(cli.client.calls) == 1


@pytest.mark.parametrize(
    ("flag", "code", "said"),
    [
        (("--model", "foo:bar"), 2, "unknown model endpoint 'foo'"),
        (("--candidate-model", "foo:bar"), 2, "unknown model endpoint 'foo'"),
        (("--planner-model", "gpt"), 2, "write ENDPOINT:NAME"),
        (("--model", "openai:m"), 5, "OPENAI_API_KEY"),
    ],
)
def test_retry_with_a_model_that_cannot_be_called(cli: Cli, flag: tuple[str, ...], code: int, said: str) -> None:
    done = cli.run("retry", "--failed", *flag)
    assert (done.code, cli.client.calls) == (code, [])
    assert said in done.err


def test_ctrl_c_leaves_a_retried_swarm_running(cli: Cli) -> None:
    cli.client.interrupt = True
    done = cli.run("retry", "--failed")
    assert done.code == 130
    assert "swarmq watch n3w0000000" in done.err


def test_cancel(cli: Cli) -> None:
    late = cli.run("cancel", SWARM)
    assert (late.code, late.out) == (2, "")
    assert late.err == f"error: swarm {SWARM} had ended already; see how with 'swarmq show {SWARM}'\n"
    late = cli.run("cancel", SWARM, "fix-p", "--json")
    assert (late.code, orjson.loads(late.out)["cancelled"]) == (2, False)
    assert "error: branch fix-parser of swarm" in late.err
    assert cli.run("cancel", "nosuch").code == 2
    unknown = cli.run("cancel", SWARM, "nosuch")
    assert unknown.code == 2
    assert "it has fix-parser, fix-dates" in unknown.err
    cli.client.swarm = record(SwarmState.RUNNING)
    done = cli.run("cancel", "last", "fix-p", "--reason", "enough")
    assert done.out == f"branch fix-parser of swarm {SWARM} is being cancelled\n"
    assert cli.client.calls[-1] == ("cancel", "enough", "fix-parser")
    assert orjson.loads(cli.run("cancel", "last", "--json").out)["cancelled"] is True


def test_pause_and_resume(cli: Cli) -> None:
    cli.client.swarm = record(SwarmState.RUNNING)
    done = cli.run("pause", SWARM[:3], "--reason", "lunch")
    assert done.out == f"swarm {SWARM} is paused; let it go on: swarmq resume {SWARM}\n"
    assert cli.client.calls[-1] == ("pause", "lunch")
    assert f"swarmq watch {SWARM}" in cli.run("resume", "last").out
    assert orjson.loads(cli.run("pause", "last", "--json").out) == {"swarm": SWARM, "paused": True}
    assert orjson.loads(cli.run("resume", "last", "--json").out) == {"swarm": SWARM, "paused": False}


def test_an_ended_swarm_can_be_neither_paused_nor_resumed(cli: Cli) -> None:
    for command in ("pause", "resume"):
        done = cli.run(command, SWARM)
        assert (done.code, done.out) == (2, "")
        assert "there is nothing to" in done.err
    assert f"swarmq retry {SWARM} --failed" in cli.run("resume", SWARM).err


def test_gc_and_cache(cli: Cli) -> None:
    done = cli.run("gc", "--dry-run")
    assert done.out == "/state/swarms/x: no record of this swarm\n"
    assert done.err == "1 directory would be removed\n"
    assert cli.client.calls == [("gc", True)]
    assert orjson.loads(cli.run("gc", "--json").out)["dry_run"] is False
    assert cli.run("cache", "stats").out == "entries     2\nsize bytes  12,345\n"
    assert cli.run("cache", "clear").out == "2 results forgotten\n"
    assert orjson.loads(cli.run("cache", "stats", "--json").out)["entries"] == 2
    assert orjson.loads(cli.run("cache", "clear", "--json").out) == {"removed": 2}


def test_workers(cli: Cli) -> None:
    assert "swarmq worker --queue" in cli.run("workers").err
    about = {
        "name": "agents-1@h",
        "queues": ["agents"],
        "host": "h",
        "pid": 7,
        "version": "0.1.0",
        "started_at": 1.0,
        "at": 2.0,
        "running": 3,
        "longest_stall_ms": 4,
        "rss_bytes": 90_000_000,
    }
    cli.client.workers_alive = [about]
    out = cli.run("workers").out
    assert "agents-1@h  agents  3        7    90 MB   4 ms" in out
    assert orjson.loads(cli.run("workers", "--json").out) == [about]


def test_a_worker_of_an_unknown_pool_is_refused(cli: Cli) -> None:
    done = cli.run("worker", "--queue", "agents", "--pool", "gevent")
    assert done.code == 2
    assert "choose agents or prefork" in done.err


def test_config_show_masks_secrets_and_tells_origins(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://:hunter2@localhost/0")
    (cli.directory / "swarmq.toml").write_text("lease_seconds = 33\n")
    out = cli.run("config", "show", "--origin").out
    assert "hunter2" not in out
    assert [line.split()[1:] for line in out.splitlines() if line.startswith("lease_seconds")] == [
        ["33.0", "swarmq.toml"]
    ]
    assert "environment" in out
    assert orjson.loads(cli.run("config", "show", "--json").out)["lease_seconds"] == 33
    origin = orjson.loads(cli.run("config", "show", "--json", "--origin").out)["lease_seconds"]
    assert origin == {"value": 33.0, "origin": "swarmq.toml"}
    assert "lease_seconds               33.0\n" in cli.run("config", "show").out


def test_config_path(cli: Cli, tmp_path: Path) -> None:
    (cli.directory / "swarmq.toml").write_text("")
    lines = cli.run("config", "path").out.splitlines()
    assert f"{cli.directory}/swarmq.toml" in lines
    assert f"{tmp_path}/config/swarmq/config.toml  (not there)" in lines
    exists = {Path(item["path"]).name: item["exists"] for item in orjson.loads(cli.run("config", "path", "--json").out)}
    assert exists == {".env": False, "swarmq.toml": True, "pyproject.toml": False, "config.toml": False}


def test_demo_runs_the_suite_before_and_tells_when_there_is_nothing_to_run_after(cli: Cli) -> None:
    cli.client.swarm = record(result=result(branch=None, commit=None))
    done = cli.run("demo", "--directory", "sample", "--json")
    said = orjson.loads(done.out)
    assert (done.code, said["suite_after"], said["result"]["id"]) == (1, None, SWARM)
    assert said["suite_before"]["passed"] is False
    assert said["repository"] == str(cli.directory / "sample")
    assert "the model is a script" in done.err


def test_ctrl_c_leaves_the_demo_running(cli: Cli) -> None:
    cli.client.interrupt = True
    done = cli.run("demo", "--directory", "sample")
    assert done.code == 130
    assert f"swarmq watch {SWARM}" in done.err


@pytest.mark.parametrize(
    ("command", "swarm"), [(("demo", "--directory", "sample"), SWARM), (("retry", "--failed"), "n3w0000000")]
)
def test_ctrl_c_while_submitting_does_not_deny_the_swarm(cli: Cli, command: tuple[str, ...], swarm: str) -> None:
    cli.client.interrupt_submit = True
    done = cli.run(*command)
    assert done.code == 130
    assert f"swarmq cancel {swarm}" in done.err


def test_a_demo_that_cannot_run_leaves_nothing_behind(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(cli.directory))
    monkeypatch.setattr(cli.client, "submit", refuse)
    assert cli.run("demo").code == 5
    assert list(cli.directory.iterdir()) == []
    monkeypatch.setenv("SWARMQ_STATE_DIR", "/proc/state")
    done = cli.run("demo")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert list(cli.directory.iterdir()) == []


async def refuse(*_: object, **__: object) -> None:
    raise EnvironmentFault("the stack does not start")


def test_a_demo_needs_a_new_directory(cli: Cli) -> None:
    (cli.directory / "full").mkdir()
    (cli.directory / "full" / "file").write_text("")
    for directory in ("full", "full/file", "/proc/sample"):
        done = cli.run("demo", "--directory", directory)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "name a new directory with --directory" in done.err
