from __future__ import annotations

import os

from swarmq.fleet.worker import own_name
from swarmq.kubernetes.worker_pods import pod_of, replaced
from swarmq.settings import load_settings


def test_on_a_machine_the_pid_tells_workers_apart() -> None:
    assert own_name(load_settings(), ["agents", "control"]) == f"agents-control-{os.getpid()}@%h"


def test_a_container_that_is_started_again_has_another_name_than_the_one_before_with_the_same_pid() -> None:
    settings = load_settings(pod_name="agents-0", pod_namespace="swarms")
    before, after = (own_name(settings, ["agents"]) for _ in range(2))
    assert pod_of(before) == pod_of(after) == ("agents-0", "swarms")
    assert replaced({before}, {after}) == {before}
    assert replaced({before}, {before, after}) == set()
    assert replaced({before}, {own_name(settings, ["control"])}) == set(), "of another queue"
