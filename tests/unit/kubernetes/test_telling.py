"""What the cluster's own words about a pod become before anybody is told them."""

from __future__ import annotations

from typing import Any

import pytest

from swarmq.kubernetes.ends import one_line
from swarmq.kubernetes.telling import ClusterEvent, read_event


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (
            {"type": "Warning", "reason": "Failed", "message": "one\ntwo", "count": 4},
            ClusterEvent("Warning", "Failed", "one two", 4),
        ),
        (
            {"type": "Warning", "reason": "FailedScheduling", "message": "no", "count": None, "series": {"count": 7}},
            ClusterEvent("Warning", "FailedScheduling", "no", 7),
        ),
        ({"reason": "Pulling", "series": None}, ClusterEvent("Normal", "Pulling", "", 1)),
        ({}, ClusterEvent("Normal", "", "", 1)),
    ],
)
def test_events_are_read(sent: dict[str, Any], read: ClusterEvent) -> None:
    assert read_event(sent) == read


def test_what_may_sign_in_at_a_registry_is_not_told() -> None:
    said = (
        'failed to pull "https://me:hunter2@registry.example/a:1": Get "https://s3.example/layer?X-Sig=abc&b=c": EOF?'
    )
    assert one_line(said) == (
        'failed to pull "https://***@registry.example/a:1": Get "https://s3.example/layer?…": EOF?'
    )
    assert len(one_line("x" * 9999)) == 500
