from __future__ import annotations

import inspect
from enum import Enum
from typing import Any, get_type_hints

import pytest
import typer
from cli_fakes import Cli
from pydantic import BaseModel
from typer.main import get_command

from swarmq.cli import options as flags
from swarmq.cli.lazy import command_app
from swarmq.cli.main import app
from swarmq.cli.plan import plan
from swarmq.cli.run import run
from swarmq.errors import OptionError
from swarmq.models.options import Strategy, SwarmOptions

pytest_plugins = ["cli_fixtures"]

NOT_OPTIONS = {"ctx", "task", "repo", "no_repo", "plan", "yes", "merge", "detach", "as_json", "events", "output"}


def parameters(command: str) -> dict[str, Any]:
    group = get_command(app)
    found = group.get_command(typer.Context(group), command)  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in found.params}


def test_run_has_a_flag_for_every_option_and_no_other() -> None:
    assert set(inspect.signature(run).parameters) - NOT_OPTIONS == set(SwarmOptions.model_fields)


def test_plan_has_a_part_of_them() -> None:
    assert set(inspect.signature(plan).parameters) - NOT_OPTIONS < set(SwarmOptions.model_fields)


@pytest.mark.parametrize("name", list(SwarmOptions.model_fields))
def test_a_flag_says_what_its_field_says(name: str) -> None:
    field, flag = SwarmOptions.model_fields[name], parameters("run")[name]
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        default = "yes" if default else "no"
    elif isinstance(default, Enum):
        default = default.value
    elif isinstance(default, float):
        default = f"{default:g}"
    shown = f" [{default}]" if not isinstance(default, BaseModel) and default not in (None, (), {}) else ""
    assert flag.help == f"{field.description}{shown}"
    assert flag.default is None
    assert (flags.RENAMED.get(name) or f"--{name.replace('_', '-')}") in flag.opts


@pytest.mark.parametrize("name", list(SwarmOptions.model_fields))
def test_a_flag_takes_what_its_field_takes(name: str) -> None:
    hint = str(get_type_hints(run)[name])
    annotation = str(SwarmOptions.model_fields[name].annotation)
    expected = next((kind for kind in ("bool", "int", "float") if kind in annotation), "str")
    assert expected in hint


def test_the_strategies_shown_are_those_that_there_are() -> None:
    assert parameters("run")["strategy"].metavar == "|".join(Strategy)


def test_only_what_was_given_is_passed_on() -> None:
    given = flags.given(
        {"model": "openai:m", "max_subtasks": None, "env": ["A=1", "B=x=y"], "copy_globs": [], "yes": True}
    )
    assert given == {"model": "openai:m", "env": {"A": "1", "B": "x=y"}}


@pytest.mark.parametrize("pair", ["A", "=1", ""])
def test_env_wants_a_name_and_a_value(pair: str) -> None:
    with pytest.raises(OptionError, match="--env: NAME=VALUE"):
        flags.given({"env": [pair]})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strategy": "clever"}, "--strategy: "),
        ({"max_subtasks": 0}, "--max-subtasks: "),
        ({"copy_globs": ["../x"]}, "--copy: "),
        ({"cache": "maybe"}, "--cache: "),
        ({"collapse_policy": {"foo": "1"}}, "--collapse-policy foo: no such field"),
        ({"collapse_policy": {"min_score": "7"}}, "--collapse-policy min_score: .*less than or equal to 1"),
    ],
)
def test_an_error_names_the_flag(values: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        flags.parse(values)


def test_a_wrong_option_ends_run_before_anything_else(cli: Cli) -> None:
    done = cli.run("run", "task", "--strategy", "clever")
    assert done.code == 2
    assert done.err.startswith("error: --strategy: ")
    assert "by_domain" in done.err
    assert cli.client.calls == []


def test_command_apps_need_no_rich() -> None:
    assert command_app().rich_markup_mode is None


@pytest.mark.parametrize(
    ("said", "in_flags"),
    [
        ("max_tokens: too little", "--max-tokens: too little"),
        ("env.A: wrong", "--env A: wrong"),
        ("copy_globs: absolute", "--copy: absolute"),
        (
            "max_cost_usd: the price of local:model is not known, or limit max_tokens instead",
            "--max-cost-usd: the price of local:model is not known, or limit --max-tokens instead",
        ),
    ],
)
def test_errors_speak_of_flags(said: str, in_flags: str) -> None:
    with pytest.raises(OptionError) as raised, flags.told_in_flags():
        raise OptionError(said)
    assert str(raised.value) == in_flags
