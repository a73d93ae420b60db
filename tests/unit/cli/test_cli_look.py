"""ls, show, result, watch and events over records that are made up."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from cli_fakes import SWARM, Cli, branch, event, record, result, spec, story

from swarmq.cli.follow import LineWatcher, watcher
from swarmq.cli.live import LiveView
from swarmq.models.branch import BranchState, Exit, Outcome
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE, CollapsePolicy, Decision, Evaluation, ScoreEntry, Vector
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.swarm import SubtaskStatus, SwarmState, SwarmStats, SwarmStatus

pytest_plugins = ["cli_fixtures"]


def status(swarm_id: str, state: SwarmState = SwarmState.RUNNING) -> SwarmStatus:
    return SwarmStatus(
        id=swarm_id,
        state=state,
        task="Mend\nit all",
        stage=0,
        stages=2,
        subtasks={"succeeded": 1, "running": 2},
        steps=1200,
        tokens=5,
        created_at=1000.0,
    )


def test_ls(cli: Cli) -> None:
    priced = status("bbb", SwarmState.FAILED).model_copy(update={"cost_usd": 0.0123})
    paused = status("ccc").model_copy(update={"paused": True, "cost_usd": 12.5})
    cli.client.statuses = [status("aaa"), priced, paused]
    assert "5       $0.0123  " in cli.run("ls").out
    assert "ccc  paused   1/2    1/3       1,200  5       $12.50   " in cli.run("ls").out
    done = cli.run("ls", "-n", "1")
    header, row = done.out.splitlines()
    assert header.split() == ["id", "state", "stage", "subtasks", "steps", "tokens", "cost", "submitted", "task"]
    assert row.startswith("aaa  running  1/2    1/3       1,200")
    assert row.endswith("Mend it all")
    assert [item["id"] for item in orjson.loads(cli.run("ls", "--json").out)] == ["aaa", "bbb", "ccc"]


def test_ls_of_nothing_is_no_data(cli: Cli) -> None:
    done = cli.run("ls")
    assert (done.code, done.out) == (0, "")
    assert "swarmq run" in done.err
    assert cli.run("ls", "--json").out == "[]\n"


def test_show_of_an_ended_swarm(cli: Cli) -> None:
    kept = branch("fix-dates").model_copy(
        update={"outcome": branch("x").outcome.model_copy(update={"worktree": "/state/w"})}  # type: ignore[union-attr]
    )
    cli.client.branch_records = [branch("fix-parser"), kept]
    out = cli.run("show", SWARM[:3]).out
    assert "state       succeeded" in out
    assert "/repo at bbbbbbbbbb (main)" in out
    assert f"swarmq/{SWARM} (cccccccccc)" in out
    assert "1,000 in (400 cached), 100 out" in out
    assert "0      fix parser  edit    succeeded  4      1,100   2.0 s  1 file +3 -1" in out
    assert "/state/w" in out


def test_show_of_a_running_swarm(cli: Cli) -> None:
    cli.client.swarm = record(SwarmState.RUNNING, stage=0)
    cli.client.branch_records = [branch("fix-parser", BranchState.RUNNING), branch("fix-dates")]
    out = cli.run("show").out
    assert "stage       1 of 2" in out
    rows = {name: row for row in out.splitlines() for name in ("fix parser", "fix dates", "run tests") if name in row}
    assert "running" in rows["fix parser"]
    assert "bash ls" in rows["fix parser"]
    assert "completed" in rows["fix dates"]
    assert "pending" in rows["run tests"]


def test_show_tells_what_is_used_of_the_budgets_until_there_are_figures(cli: Cli) -> None:
    assert "used  " not in cli.run("show").out
    cli.client.swarm = record(SwarmState.RUNNING, stage=0)
    assert "used        1,200 of 1,500 steps, 34,567 tokens, $1.50 of $20.00\n" in cli.run("show").out
    limits = SwarmOptions(max_total_steps=1300, max_tokens=50_000, max_cost_usd=2)
    cli.client.swarm = record(SwarmState.RUNNING, stage=0, spec=spec(options=limits))
    assert "used        1,200 of 1,300 steps, 34,567 of 50,000 tokens, $1.50 of $2.00\n" in cli.run("show").out


def test_a_paused_swarm_is_shown_as_paused(cli: Cli) -> None:
    cli.client.swarm = record(SwarmState.RUNNING, stage=0, paused_at=1.0, pause_reason="lunch", result=None)
    shown = cli.run("show").out
    assert "state       paused\n" in shown
    assert f" (lunch); let it go on: swarmq resume {SWARM}\n" in shown
    done = cli.run("result")
    assert (done.code, done.err) == (2, f"error: swarm {SWARM} is paused: let it go on with swarmq resume {SWARM}\n")


def test_a_retry_names_the_swarm_that_it_tries_again(cli: Cli) -> None:
    assert "retry of" not in cli.run("show").out
    cli.client.swarm = record(spec=spec(retry_of="aaa"))
    assert "retry of    aaa\n" in cli.run("show").out


def test_the_cost_of_a_result_from_the_cache_is_not_unknown(cli: Cli) -> None:
    cached = Outcome(exit=Exit.COMPLETED, cached_from="aaa/fix-parser")
    cli.client.branch_records = [branch("fix-parser", outcome=cached)]
    out = cli.run("show", "last", "fix-parser").out
    assert "cost         -\n" in out
    assert "from cache   aaa/fix-parser" in out


def test_show_before_there_is_a_plan(cli: Cli) -> None:
    cli.client.swarm = record(SwarmState.PLANNING, plan=None, stage=-1, spec=spec(repo=None, base_commit=None))
    cli.client.branch_records = []
    out = cli.run("show").out
    assert "planning" in out
    assert "repository" not in out


def test_show_of_a_branch(cli: Cli) -> None:
    out = cli.run("show", "last", "fix-p").out
    assert "subtask      fix parser" in out
    assert f"celery task  {SWARM}.fix-parser" in out
    assert "instruction:\nMend the parser." in out
    assert "answer:\ndone �[31mred" in out
    cli.client.branch_records = [branch("fix-parser", BranchState.RUNNING, cancel_reason="enough")]
    out = cli.run("show", "last", "fix-parser").out
    assert "2 steps, 50 tokens; bash ls" in out
    assert "enough" in out


def test_show_as_json(cli: Cli) -> None:
    both = orjson.loads(cli.run("show", "--json").out)
    assert both["swarm"]["spec"]["id"] == SWARM
    assert [item["spec"]["id"] for item in both["branches"]] == ["fix-parser", "fix-dates"]
    one = orjson.loads(cli.run("show", "last", "fix-dates", "--json").out)
    assert one["spec"]["id"] == "fix-dates"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing", "has no branch 'nothing'; it has fix-parser, fix-dates"),
        ("fix", "'fix' is not unique: fix-parser, fix-dates"),
    ],
)
def test_a_branch_has_to_be_one(cli: Cli, given: str, said: str) -> None:
    done = cli.run("show", "last", given)
    assert done.code == 2
    assert said in done.err


def test_a_branch_id_wins_over_a_beginning(cli: Cli) -> None:
    cli.client.branch_records = [branch("fix"), branch("fix.2")]
    assert "branch       fix\n" in cli.run("show", "last", "fix").out


def test_result(cli: Cli) -> None:
    done = cli.run("result")
    assert (done.code, done.out) == (0, "## Report\nAll is well.\n")
    assert f"swarm {SWARM} succeeded in 5.0 s: 3 of 3 subtasks, 12 steps, 1,100 tokens" in done.err
    assert f"swarmq merge {SWARM}" in done.err
    assert orjson.loads(cli.run("result", "--json").out)["commit"] == "c" * 40


def test_a_synthesis_is_the_answer(cli: Cli) -> None:
    cli.client.swarm = record(result=result(answer="In short: well.\n"))
    assert cli.run("result").out == "In short: well.\n"


def test_result_of_a_swarm_that_a_limit_ended(cli: Cli) -> None:
    subtasks = [item.model_copy(update={"status": SubtaskStatus.FAILED}) for item in result().subtasks]
    ended = result(SwarmState.FAILED, limit="max_total_steps", error="out of steps", subtasks=subtasks, branch=None)
    cli.client.swarm = record(SwarmState.FAILED, result=ended)
    done = cli.run("result")
    assert done.code == 4
    assert "--max-total-steps" in done.err
    assert "reason: out of steps" in done.err
    assert f"swarmq retry {SWARM} --failed" in done.err
    assert "swarmq merge" not in done.err


def test_result_of_a_running_swarm_is_a_usage_error(cli: Cli) -> None:
    cli.client.swarm = record(SwarmState.RUNNING)
    done = cli.run("result")
    assert done.code == 2
    assert f"swarmq watch {SWARM}" in done.err


def test_watch_prints_lines_off_a_terminal_and_the_report_as_data(cli: Cli) -> None:
    done = cli.run("watch")
    assert done.code == 0
    assert done.out == "## Report\nAll is well.\n"
    assert "fix-parser                bash ls" in done.err
    assert "\x1b" not in done.out + done.err


def test_a_dumb_terminal_gets_lines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("swarmq.cli.follow.is_terminal", lambda stream: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert isinstance(watcher(SWARM, events=False), LineWatcher)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(watcher(SWARM, events=False), LiveView)


def test_watch_as_ndjson(cli: Cli) -> None:
    done = cli.run("watch", "--events")
    events = [orjson.loads(item) for item in done.out.splitlines()]
    assert [item["type"] for item in events] == [item.type.value for item in story()]
    assert "bash ls" not in done.err


def test_watch_as_json_is_one_object(cli: Cli) -> None:
    assert orjson.loads(cli.run("watch", "--json").out)["id"] == SWARM
    assert cli.run("watch", "--json", "--events").code == 2


def test_ctrl_c_detaches(cli: Cli) -> None:
    cli.client.interrupt = True
    done = cli.run("watch", SWARM[:2])
    assert done.code == 130
    assert f"swarmq watch {SWARM}" in done.err
    assert f"swarmq cancel {SWARM}" in done.err


def test_events(cli: Cli) -> None:
    lines = cli.run("events").out.splitlines()
    assert len(lines) == len(story())
    assert lines[0].startswith("1000000-0")
    after = cli.run("events", "last", "--after", story()[-2].id, "--json").out.splitlines()
    assert [orjson.loads(item)["type"] for item in after] == ["swarm.finished"]
    of_branch = cli.run("events", "--branch", "fix-p", "--follow", "--json").out.splitlines()
    assert {orjson.loads(item)["branch"] for item in of_branch} == {"fix-parser"}


def test_ctrl_c_before_watch_knows_its_swarm_promises_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(swarm_id: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.client, "get", interrupted)
    done = cli.run("watch", "last")
    assert (done.code, done.err) == (130, "")


def test_ctrl_c_ends_events(cli: Cli) -> None:
    cli.client.interrupt = True
    done = cli.run("events", "--follow")
    assert (done.code, len(done.out.splitlines())) == (130, len(story()))


def test_one_tool_call_is_no_plural(cli: Cli) -> None:
    stats = SwarmStats(total_steps=9, critical_path_steps=3, tool_calls=1)
    cli.client.swarm = record(result=result(stats=stats))
    assert "9, critical path 3; 1 tool call\n" in cli.run("show").out


def test_collapse_says_why_nothing_was_judged(cli: Cli) -> None:
    assert cli.run("collapse", "explain", SWARM).err == "nothing was judged\n"
    cli.client.swarm = record(SwarmState.RUNNING)
    assert cli.run("collapse", "explain", SWARM).err == "nothing was judged yet\n"
    cli.client.swarm = record(spec=spec(options=SwarmOptions(model="openai:m", collapse="off")))
    assert cli.run("collapse", "explain", SWARM).err == "nothing was judged: collapse is off\n"
    reason = f"{CANCELLED_BY_COLLAPSE}fix.2 won the race"
    cli.client.swarm = record()
    cli.client.branch_records = [branch("fix", cancel_reason=reason), branch("fix.2"), branch("other")]
    raced = "nothing was judged before its race was over: fix was cancelled, as fix.2 won the race\n"
    assert cli.run("collapse", "explain", SWARM).err == raced
    assert cli.run("collapse", "explain", SWARM, "fix").err == raced
    assert cli.run("collapse", "explain", SWARM, "other").err == "nothing was judged\n"


def test_collapse_explains_each_decision(cli: Cli) -> None:
    vector = Vector(compile=0, tests=0.6, contract=0, conflict_risk=0, velocity=0.05, resources=1, breaks=2)
    evaluations = (
        Evaluation(
            branch_id="fix-dates", group="fix", vector=vector, score=0.1, decision=Decision.KILLED, reason="bad"
        ),
        Evaluation(branch_id="fix-parser", group="fix", vector=vector, score=0.1, decision=Decision.SPARED, reason="x"),
    )
    cli.client.scores = [ScoreEntry(at=1000.0, scope="race", policy=CollapsePolicy.seed(), evaluations=evaluations)]
    shown = cli.run("collapse", "explain", SWARM)
    assert "max_invariant_breaks               2" in shown.out
    assert "fix-dates   0.10   0.00     0.60   0.00      0.00      0.05      1.00       2" in shown.out
    assert "killed: bad" in shown.out
    assert "2 decisions against a branch" in shown.err
    one = orjson.loads(cli.run("collapse", "explain", SWARM, "fix-p", "--json").out)
    assert [found["branch_id"] for entry in one for found in entry["evaluations"]] == ["fix-parser"]


def test_show_of_a_branch_tells_of_its_pods(cli: Cli) -> None:
    of_pod = {"pod": "swarmq-fix", "uid": "1", "phase": "Pending"}
    second = of_pod | {"uid": "2", "node": "node-b", "phase": "Running"}
    told: list[dict[str, Any]] = [
        {"notice": "the quota leaves no room"},
        of_pod | {"notice": "Warning FailedScheduling: no room", "reason": "FailedScheduling", "count": 3},
        of_pod | {"notice": "Warning FailedScheduling: no room", "reason": "FailedScheduling", "count": 9},
        of_pod | {"notice": "ended: drained \x1b[31mred", "reason": "evicted"},
        second | {"notice": "runs on node-b"},
    ]
    cli.client.events = [event(EventType.BRANCH_POD, 1002 + n, "fix-dates", **data) for n, data in enumerate(told)]
    cli.client.events += [event(EventType.BRANCH_POD, 1009, "fix-parser", notice="another branch's")]
    assert "pod" not in cli.run("show", "last", "fix-dates").out, "it runs in the fleet"
    cli.client.swarm = record(spec=spec(options=SwarmOptions(model="openai:m", placement="pod")))
    out = cli.run("show", "last", "fix-dates").out
    assert "swarmq-fix on node-b\n" in out
    assert "Running" not in out, "the branch has ended"
    assert out.count("FailedScheduling: no room (9 times)\n") == out.count("FailedScheduling") == 1
    assert "\x1b" not in out
    assert "another" not in out
    shown = orjson.loads(cli.run("show", "last", "fix-dates", "--json").out)
    assert shown["spec"]["id"] == "fix-dates"
    pod = shown["pod"]
    assert (pod["name"], pod["node"], pod["phase"], pod["pods"]) == ("swarmq-fix", "node-b", "", 2)
    assert [line["reason"] for line in pod["notices"]] == ["", "FailedScheduling", "evicted", ""]
    cli.client.events = []
    assert orjson.loads(cli.run("show", "last", "fix-dates", "--json").out)["pod"] is None
