from __future__ import annotations

import pytest

from swarmq.errors import OptionError
from swarmq.models.options import SwarmOptions, changed_options


def test_defaults_are_those_of_the_specification() -> None:
    options = SwarmOptions.parse({})
    assert (options.max_subtasks, options.max_subagents, options.max_steps_per_subagent) == (100, 100, 100)
    assert (options.max_total_steps, options.subagent_timeout_seconds, options.step_timeout_seconds) == (
        1500,
        3600,
        600,
    )
    assert (options.model_call_timeout_seconds, options.max_retries, options.max_deliveries) == (120, 3, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_steps": 5}, "max_steps: no such field"),
        ({"max_subagents": 0}, "max_subagents: .*greater than or equal to 1.*got 0"),
        ({"max_total_steps": -3}, "max_total_steps"),
        ({"strategy": "by_magic"}, "strategy"),
        ({"on_failure": "panic"}, "on_failure"),
        ({"copy_globs": ["../secrets"]}, "copy_globs: '../secrets' leads out of the repository"),
        ({"temperature": "warm"}, "temperature"),
    ],
)
def test_a_wrong_option_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SwarmOptions.parse(values)


NUMBERS = [name for name, field in SwarmOptions.model_fields.items() if field.annotation in (int, float, float | None)]
MAY_BE_ZERO = {"max_retries", "temperature", "keep_failed_hours"}


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_limit_is_zero_negative_or_no_number(name: str, value: float) -> None:
    if value == 0 and name in MAY_BE_ZERO:
        SwarmOptions.parse({name: value})
        return
    with pytest.raises(OptionError, match=f"^{name}: ") as refused:
        SwarmOptions.parse({name: value})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("model_call_timeout_seconds", "step_timeout_seconds"),
        ("step_timeout_seconds", "subagent_timeout_seconds"),
    ],
)
def test_limits_that_contradict_each_other_are_refused_where_both_are_given(inner: str, outer: str) -> None:
    with pytest.raises(OptionError, match=rf"^{inner}: 60 is more than {outer} \(30\).* raise {outer}$"):
        SwarmOptions.parse({inner: 60, outer: 30})
    SwarmOptions.parse({inner: 30, outer: 30})
    alone = SwarmOptions.parse({outer: 1})
    assert SwarmOptions.model_validate_json(alone.model_dump_json()) == alone, "what was accepted can be read again"


def test_changed_options_keep_the_others() -> None:
    first = SwarmOptions.parse(
        {"model": "a:b", "max_total_steps": 5, "step_timeout_seconds": 60, "idempotency_key": "k"}
    )
    again = changed_options(first, {"max_total_steps": 50})
    assert (again.model, again.max_total_steps, again.step_timeout_seconds) == ("a:b", 50, 60)
    assert again.idempotency_key is None
    assert changed_options(first, {"idempotency_key": "other"}).idempotency_key == "other"
    with pytest.raises(OptionError, match=r"^max_stepz: no such field"):
        changed_options(first, {"max_stepz": 1})
    with pytest.raises(OptionError, match=r"^max_total_steps: .*greater than or equal to 1"):
        changed_options(first, {"max_total_steps": 0})
    with pytest.raises(OptionError, match=r"^model_call_timeout_seconds: "):
        changed_options(first, {"model_call_timeout_seconds": 61})
