"""run and plan behind their checks: planning, asking, submitting, following."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from cli_fakes import PLAN, SWARM, Cli, record, result, spec, story

from swarmq.cli import plans, preflight
from swarmq.cli.planfile import plan_as_yaml, read_plan
from swarmq.cli.preflight import Checked, Request
from swarmq.errors import EnvironmentFault, PlanError, StoreError, UsageError
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmState
from swarmq.orchestrator.decompose import Decomposition
from swarmq.settings import load_settings

PLANNING = Usage(input_tokens=1000, output_tokens=234)

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def requests(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What was checked; every request is found to be right."""
    seen: list[Request] = []

    async def check(request: Request, *, runs: bool = True) -> Checked:
        seen.append(request)
        plan = None if request.plan_file is None else read_plan(request.plan_file)
        return Checked(load_settings(), spec(plan=plan), {"model": "openai:m"}, "openai:m", True)

    monkeypatch.setattr(preflight, "check", check)
    return seen


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    """Plans that a model would have made, and for whom."""
    asked: list[Checked] = []

    async def make_plan(checked: Checked) -> Decomposition:
        asked.append(checked)
        return Decomposition(checked.plan, None, Usage()) if checked.plan else Decomposition(PLAN, "a note", PLANNING)

    monkeypatch.setattr(plans, "make_plan", make_plan)
    return asked


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """Makes stdin and stderr a terminal, at which somebody answers that way."""
    monkeypatch.setattr("swarmq.cli.run.may_ask", lambda: True)
    questions: list[str] = []

    def give(reply: Any) -> list[str]:
        def confirm(text: str, **options: Any) -> bool:
            assert options == {"default": False, "err": True}
            questions.append(text)
            if isinstance(reply, BaseException):
                raise reply
            return bool(reply)

        monkeypatch.setattr(typer, "confirm", confirm)
        return questions

    return give


def submitted(cli: Cli) -> list[dict[str, Any]]:
    return [call[2] for call in cli.client.calls if call[0] == "submit"]


def test_off_a_terminal_the_swarm_plans(cli: Cli, requests: list[Request], planner: list[Checked]) -> None:
    done = cli.run("run", "Mend it", "--model", "openai:m", "--repo", "/r")
    assert done.code == 0
    assert done.out == "## Report\nAll is well.\n"
    assert f"swarm {SWARM}; Ctrl-C leaves it running" in done.err
    assert (requests[0].task, requests[0].repo) == ("Mend it", Path("/r"))
    assert planner == []
    assert submitted(cli) == [{"repo": "/repo", "plan": None, "plan_usage": None, "model": "openai:m"}]


def test_on_a_terminal_the_plan_is_shown_and_asked_about(
    cli: Cli, requests: list[Request], planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    questions = answer(True)
    done = cli.run("run", "Mend it")
    assert done.code == 0
    assert questions == ["Run 3 subtasks with openai:m?"]
    assert "note: a note" in done.err
    assert "╰─┴─● run tests (verify)" in done.err
    assert "The plan cost 1,234 tokens." in done.err
    assert done.out == "## Report\nAll is well.\n"
    assert submitted(cli)[0]["plan"] == PLAN
    assert submitted(cli)[0]["plan_usage"] == PLANNING


def test_no_means_that_nothing_is_started(
    cli: Cli, requests: list[Request], planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    answer(False)
    done = cli.run("run", "Mend it")
    assert (done.code, done.out, cli.client.calls) == (130, "", [])
    assert "nothing was started" in done.err


def test_ctrl_c_at_the_question(
    cli: Cli, requests: list[Request], planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    answer(typer.Abort())
    done = cli.run("run", "Mend it")
    assert (done.code, cli.client.calls) == (130, [])
    assert "no swarm was started" in done.err


def test_yes_skips_plan_and_question(
    cli: Cli, requests: list[Request], planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    questions = answer(False)
    assert cli.run("run", "Mend it", "--yes").code == 0
    assert (questions, planner) == ([], [])


def test_where_the_model_cannot_be_called_from_here_nothing_is_asked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    async def check(request: Request) -> Checked:
        return Checked(load_settings(), spec(), {}, "openai:m", False)

    monkeypatch.setattr(preflight, "check", check)
    questions = answer(False)
    assert cli.run("run", "Mend it").code == 0
    assert (questions, planner) == ([], [])


def test_a_given_plan_is_shown_and_asked_about_too(
    cli: Cli, requests: list[Request], planner: list[Checked], answer: Callable[[Any], list[str]]
) -> None:
    (cli.directory / "p.yaml").write_text("subtasks: [{name: a, instruction: x}]")
    questions = answer(True)
    done = cli.run("run", "--plan", "p.yaml")
    assert questions == ["Run 1 subtask with openai:m?"]
    assert "planning with" not in done.err
    assert [subtask.name for subtask in submitted(cli)[0]["plan"].subtasks] == ["a"]


def test_workers_of_ones_own_that_are_missing_are_named(
    cli: Cli, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://localhost:1/0")
    cli.client.workers_alive = [{"queues": ["control", "integrate"]}]
    done = cli.run("run", "Mend it")
    assert "the swarm waits for swarmq worker --queue agents" in done.err
    assert "--queue control" not in done.err
    assert "--queue agents" in cli.run("run", "Mend it", "--detach").err
    assert "--queue pods" not in done.err

    async def in_pods(request: Request, *, runs: bool = True) -> Checked:
        options = SwarmOptions(model="openai:m", placement="pod")
        return Checked(load_settings(), spec(options=options), {"model": "openai:m"}, "openai:m", True)

    monkeypatch.setattr(preflight, "check", in_pods)
    assert "the swarm waits for swarmq worker --queue pods" in cli.run("run", "Mend it", "--detach").err


def test_detached(cli: Cli, requests: list[Request]) -> None:
    done = cli.run("run", "Mend it", "--detach")
    assert (done.code, done.out) == (0, f"{SWARM}\n")
    assert f"swarmq watch {SWARM}" in done.err
    assert orjson.loads(cli.run("run", "Mend it", "-d", "--json").out) == {"id": SWARM, "joined": False}


def test_a_known_idempotency_key_is_told(cli: Cli, requests: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(request: Request) -> Checked:
        return Checked(load_settings(), spec(), {"idempotency_key": "known"}, "openai:m", False)

    monkeypatch.setattr("swarmq.cli.preflight.check", check)
    done = cli.run("run", "Mend it", "--idempotency-key", "known")
    assert f"joined swarm {SWARM}" in done.err
    assert "options stay what they were" in done.err
    done = cli.run("run", "Mend it", "--idempotency-key", "known", "-d", "--json")
    assert orjson.loads(done.out) == {"id": SWARM, "joined": True}


@pytest.mark.parametrize(("key", "plans_made"), [("known", 0), ("new", 1)])
def test_a_plan_is_not_paid_for_where_the_idempotency_key_has_a_swarm_already(
    cli: Cli,
    planner: list[Checked],
    answer: Callable[[Any], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    plans_made: int,
) -> None:
    async def check(request: Request) -> Checked:
        return Checked(load_settings(), spec(), {"model": "openai:m", "idempotency_key": key}, "openai:m", True)

    monkeypatch.setattr("swarmq.cli.preflight.check", check)
    questions = answer(True)
    done = cli.run("run", "Mend it", "--idempotency-key", key)
    assert done.code == 0
    assert (f"joined swarm {SWARM}" in done.err) == (key == "known")
    assert (len(planner), len(questions)) == (plans_made, plans_made)


def test_json_is_one_object_and_events_are_many(cli: Cli, requests: list[Request]) -> None:
    assert orjson.loads(cli.run("run", "x", "--json").out)["branch"] == f"swarmq/{SWARM}"
    assert len(cli.run("run", "x", "--events").out.splitlines()) == len(story())


@pytest.mark.parametrize("arguments", [("--json", "--events"), ("--detach", "--merge"), ("--detach", "--events")])
def test_what_excludes_each_other_is_refused_first(
    cli: Cli, requests: list[Request], arguments: tuple[str, ...]
) -> None:
    assert cli.run("run", "x", *arguments).code == 2
    assert requests == []


def test_ctrl_c_while_following_detaches(cli: Cli, requests: list[Request]) -> None:
    cli.client.interrupt = True
    done = cli.run("run", "Mend it")
    assert done.code == 130
    assert f"swarmq watch {SWARM}" in done.err
    assert f"swarmq cancel {SWARM}" in done.err


def test_ctrl_c_while_submitting_does_not_deny_the_swarm(cli: Cli, requests: list[Request]) -> None:
    cli.client.interrupt_submit = True
    done = cli.run("run", "x")
    assert done.code == 130
    assert f"swarmq cancel {SWARM}" in done.err


def test_a_redis_that_goes_away_does_not_take_the_id_along(
    cli: Cli, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(handle: Any, **_: Any) -> None:
        raise StoreError("Redis does not answer for 60 s")

    monkeypatch.setattr("swarmq.cli.follow.follow", away)
    done = cli.run("run", "x")
    assert done.code == 5
    assert f"swarmq watch {SWARM}" in done.err
    assert done.err.endswith("error: Redis does not answer for 60 s\n")


def test_merge_after_success_only(cli: Cli, requests: list[Request]) -> None:
    done = cli.run("run", "x", "--merge")
    assert (done.code, cli.client.calls[-1]) == (0, ("merge", None))
    assert "merged into main" in done.err
    cli.client.calls.clear()
    cli.client.swarm = record(SwarmState.PARTIAL, result=result(SwarmState.PARTIAL))
    done = cli.run("run", "x", "--merge")
    assert (done.code, len(cli.client.calls)) == (3, 1)
    assert f"swarmq merge {SWARM}" in done.err


@pytest.mark.parametrize(
    ("state", "code"), [(SwarmState.PARTIAL, 3), (SwarmState.FAILED, 1), (SwarmState.CANCELLED, 1)]
)
def test_the_swarm_decides_the_exit_code(cli: Cli, requests: list[Request], state: SwarmState, code: int) -> None:
    cli.client.swarm = record(state, result=result(state))
    assert cli.run("run", "x", "--json").code == code


def test_plan_prints_table_and_dag(cli: Cli, requests: list[Request], planner: list[Checked]) -> None:
    done = cli.run("plan", "Mend it")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["stage", "subtask", "kind", "specialty", "priority", "needs", "instruction"]
    assert lines[3].startswith("1      run tests   verify  software engineering  0         fix parser, fix dates")
    assert lines[-1] == "stage 1   ╰─┴─● run tests (verify)"
    assert "1,234 tokens" in done.err
    assert cli.client.calls == []


def test_a_saved_plan_reads_back_as_the_same_plan(cli: Cli, requests: list[Request], planner: list[Checked]) -> None:
    done = cli.run("plan", "Mend it", "--output", "p.yaml", "--json")
    assert Plan.parse(orjson.loads(done.out)) == PLAN
    assert read_plan(Path("p.yaml")) == PLAN
    assert Path("p.yaml").read_text().startswith("# A plan of swarmq for the task:\n# Mend it all\n")
    assert "swarmq run --plan p.yaml" in done.err


def test_a_plan_that_could_not_be_saved_is_not_paid_for(
    cli: Cli, requests: list[Request], planner: list[Checked]
) -> None:
    refused = cli.run("plan", "Mend it", "--output", "no/such/dir.yaml")
    assert (refused.code, refused.err) == (2, "error: --output no/such/dir.yaml: No such file or directory\n")
    Path("p.yaml").write_text("mine")
    refused = cli.run("plan", "Mend it", "--output", "p.yaml")
    assert refused.code == 2
    assert "exists, and is not overwritten: name another file" in refused.err
    assert Path("p.yaml").read_text() == "mine"
    assert (requests, planner) == ([], [])


def test_a_plan_that_is_paid_for_is_not_thrown_away(
    cli: Cli, requests: list[Request], planner: list[Checked], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there").mkdir()
    make_plan = plans.make_plan

    async def remove_meanwhile(checked: Checked) -> Decomposition:
        os.rmdir("there")
        return await make_plan(checked)

    monkeypatch.setattr(plans, "make_plan", remove_meanwhile)
    done = cli.run("plan", "Mend it", "--output", "there/p.yaml")
    assert done.code == 2
    assert "on standard output instead" in done.err
    Path("saved.yaml").write_text(done.out)
    assert read_plan(Path("saved.yaml")) == PLAN


def test_texts_of_several_lines_are_blocks() -> None:
    text = "First.\nSecond: ü.\n"
    plan = Plan(subtasks=(Subtask(name="a", instruction=text),))
    assert "  instruction: |\n    First.\n    Second: ü.\n" in plan_as_yaml(plan, "t\nu")
    assert plan_as_yaml(plan, "t\nu").startswith("# A plan of swarmq for the task:\n# t\n# u\n")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("subtasks: [{name: a, instruction: x, dependencies: [b]}, {name: b, instruction: x, dependencies: [a]}]",
         PlanError, "cycle: a -> b -> a"),
        ("subtasks: [{name: a, instruction: x, color: red}]", PlanError, "color: no such field"),
        ("subtasks: [{name: a}]", PlanError, "subtask 'a': instruction: Field required"),
        ("subtasks: [{instruction: a}]", PlanError, "subtasks.0.name: Field required"),
        ("subtasks: [{name: a, instruction: ' '}]", PlanError, "subtask 'a': instruction: must not be empty"),
        ("subtasks: [{name: a, instruction: x, dependencies: b}]", PlanError,
         "subtask 'a': dependencies: must be a list"),
        ("subtasks: [{name: a, instruction: x}]\nsubtasks: []", UsageError, "line 2: a second 'subtasks'"),
        ("subtasks:\n  - name: a\n    instruction: x\n    name: b", UsageError, "line 4: a second 'name'"),
        ("[" * 5000, UsageError, "nested too deeply"),
        ("subtasks: []", PlanError, "subtasks: must not be empty"),
        ("just text", PlanError, "an object with a list 'subtasks'"),
        ("a: [\nb: }", UsageError, "line 2"),
        ("\x00", UsageError, "plan file"),
        ('[{"name": "a", "instruction": "x"}, {"name": "b", "instruction": "x"}]', PlanError, "max_subtasks is 1"),
    ],
)  # fmt: skip
def test_a_bad_plan_file_says_what_is_wrong(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        read_plan(path, max_subtasks=1)
    assert str(caught.value).startswith(f"plan file {path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_plan_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_plan(tmp_path / "p.yaml")
    with pytest.raises(UsageError, match="Is a directory"):
        read_plan(tmp_path)
    (tmp_path / "latin").write_bytes(b"subtasks: caf\xe9")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_plan(tmp_path / "latin")


def test_json_plans_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(orjson.dumps(PLAN.model_dump(mode="json")))
    assert read_plan(path) == PLAN


def test_an_environment_fault_ends_run_before_anything(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(request: Request) -> Checked:
        raise EnvironmentFault("no key for model endpoint 'openai': set the variable OPENAI_API_KEY")

    monkeypatch.setattr(preflight, "check", check)
    done = cli.run("run", "x")
    assert (done.code, done.out, cli.client.calls) == (5, "", [])
    assert done.err == "error: no key for model endpoint 'openai': set the variable OPENAI_API_KEY\n"
