from __future__ import annotations

import pytest

from swarmq.errors import OptionError
from swarmq.models.options import SwarmOptions


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
