"""JSON in a text, whatever stands around it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.orchestrator.json_text import json_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('Sure!\n```json\n{\n  "a": {"b": [1]}\n}\n```\nand [{"c": 2}]', [{"a": {"b": [1]}}, [{"c": 2}]]),
        ("use {name} and [x] and {} then {'a': 1}", [{}]),
        ('{"a": "} not the end {"}', [{"a": "} not the end {"}]),
        ('{"broken": [1, {"inner": 2}', [{"inner": 2}]),
        ("no JSON", []),
        ("", []),
    ],
)
def test_values_in_order(text: str, values: list[Any]) -> None:
    assert list(json_values(text)) == values


@pytest.mark.parametrize("part", ["{", '{"a":', '[{"a":"', "{ ", "{\n", "{" + " " * 300, '[{"'])
def test_hostile_text_costs_little(part: str) -> None:
    text = part * (1_000_000 // len(part))
    started = time.process_time()
    assert list(json_values(text)) == []
    assert time.process_time() - started < 0.5


@given(st.text(), st.dictionaries(st.text(), st.integers() | st.text()), st.text())
def test_an_object_after_text_without_braces_is_found(before: str, value: dict[str, Any], after: str) -> None:
    text = before.replace("{", "").replace("[", "") + json.dumps(value) + after
    assert next(json_values(text)) == value


@given(st.text(alphabet='{}[]":,a1 \n'))
def test_any_text_is_searched_without_an_error(text: str) -> None:
    assert all(isinstance(value, dict | list) for value in json_values(text))
