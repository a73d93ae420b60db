"""A swarm inside the producer's own canvas, from a process with its own Celery application on the same broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from fleet_stack import FleetStack, git, until

from swarmq import Client, Plan, Subtask, swarm_signature
from swarmq.errors import OptionError, SwarmCancelled
from swarmq.fleet.app import CONTROL, celery_url
from swarmq.models.events import EventType

ALPHA = Plan(subtasks=(Subtask(name="Alpha", instruction="Write alpha"),))
SLOW = Plan(subtasks=(Subtask(name="Slow", instruction="Be slow", kind="read"),))
TIMEOUT = 60


@pytest.fixture(scope="module")
def producer(fleet: FleetStack) -> Iterator[Celery]:
    """The producer's application in this process, and a worker of its own as another."""
    url = celery_url(fleet.url)
    with (fleet.root / "producer.log").open("ab") as log:
        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "producer_app",
                "worker",
                "-P",
                "threads",
                "-c",
                "2",
                "--without-mingle",
            ],
            env=fleet.environment | {"PRODUCER_URL": url},
            cwd=Path(__file__).parent,
            stdout=log,
            stderr=log,
        )
    app = Celery("producer", broker=url, backend=url)
    app.conf.task_default_queue = "producer"
    yield app
    app.close()
    worker.terminate()
    worker.wait(TIMEOUT)


def task(app: Celery, name: str, *args: Any) -> Any:
    return app.signature(f"producer.{name}", args=args, queue="producer")


def wait(result: Any) -> Any:
    """Poll: no subscription, so nothing lingers in this process."""
    until(
        lambda: result.backend.get_state(result.id) in ("SUCCESS", "FAILURE", "REVOKED") or None, "the result", TIMEOUT
    )
    return result.backend.get_result(result.id)


def test_send_task_needs_no_import_of_swarmq(fleet: FleetStack, producer: Celery) -> None:
    repo = fleet.repository("sent")
    result = producer.send_task(
        "swarmq.swarm", args=["Split this task"], kwargs={"repo": str(repo)}, queue="swarmq.control"
    )
    value = wait(result)
    assert value["success"] is True
    assert set(value) == {"id", "success", "state", "report", "branch", "commit"}
    assert git(repo, "rev-parse", value["branch"]).strip() == value["commit"]


def test_a_chain_before_and_after(fleet: FleetStack, producer: Celery, client: Client) -> None:
    swarm = swarm_signature("Two parts", plan=ALPHA, repo=fleet.repository("chained"))
    result = chain(task(producer, "before", "money"), swarm, task(producer, "after"), app=producer).apply_async()
    value = wait(result)["after"]
    assert value["success"] is True
    assert client.get(value["id"]).record().spec.context == "context about money"


def test_a_group_and_a_chord(fleet: FleetStack, producer: Celery) -> None:
    swarms = [swarm_signature("x", plan=ALPHA, repo=fleet.repository(f"group{n}")) for n in range(2)]
    members = group([*swarms, task(producer, "before", "tea")], app=producer).apply_async()
    values = [wait(member) for member in members.results]
    assert [value["success"] for value in values[:2]] == [True, True]
    assert values[2] == "context about tea"
    swarms = [swarm_signature("x", plan=ALPHA, repo=fleet.repository(f"chord{n}")) for n in range(2)]
    joined = chord([*swarms, task(producer, "before", "tea")], app=producer)(task(producer, "collect"))
    collected = wait(joined)
    assert [value if isinstance(value, str) else value["success"] for value in collected] == [
        True,
        True,
        "context about tea",
    ]


def test_a_cancelled_swarm_raises_and_calls_link_error(fleet: FleetStack, producer: Celery, client: Client) -> None:
    swarm = swarm_signature("x", plan=SLOW, cache="bypass")
    swarm.link_error(task(producer, "failed"))
    result = chain(swarm, task(producer, "after"), app=producer).apply_async()
    swarm_task = result.parent.id
    swarm_id = until(
        lambda: next((s.id for s in client.list() if s.task == "x" and not s.state.final), None), "the swarm"
    )
    handle = client.get(swarm_id)
    next(event for event in handle.events() if event.type is EventType.BRANCH_STARTED)
    handle.cancel("not needed")
    until(lambda: producer.backend.get_state(swarm_task) == "FAILURE" or None, "the failure")
    error = producer.backend.get_result(swarm_task)
    assert type(error).__name__ == SwarmCancelled.__name__
    assert "not needed" in str(error)
    ids = until(lambda: producer.backend.client.lrange("producer:failed", 0, -1), "link_error")
    assert ids == [swarm_task.encode()]


def test_a_failed_swarm_is_a_value(fleet: FleetStack, producer: Celery) -> None:
    idle = Plan(subtasks=(Subtask(name="Idle", instruction="Change nothing"),))
    swarm = swarm_signature("x", plan=idle, repo=fleet.repository("failed-value"), cache="bypass")
    value = wait(chain(swarm, task(producer, "after"), app=producer).apply_async())["after"]
    assert (value["success"], value["state"]) == (False, "failed")


def test_wrong_options_are_refused_before_anything_starts(fleet: FleetStack, producer: Celery) -> None:
    with pytest.raises(OptionError, match="max_stepz"):
        swarm_signature("x", max_stepz=1)
    for options, said in (
        ({"max_stepz": 1}, "max_stepz: no such field"),
        ({"max_total_steps": -1}, "max_total_steps: Input should be greater than or equal to 1 (got -1)"),
        ({"step_timeout_seconds": 9, "subagent_timeout_seconds": 5}, "step_timeout_seconds: 9 is more than"),
    ):
        error = wait(producer.send_task("swarmq.swarm", args=["x"], kwargs=options, queue=CONTROL))
        assert type(error).__name__ == "OptionError"
        assert said in str(error)


def test_revoking_the_swarms_task_cancels_the_swarm(fleet: FleetStack, producer: Celery, client: Client) -> None:
    result = producer.send_task(
        "swarmq.swarm",
        args=["Revoke me"],
        kwargs={"plan": SLOW.model_dump(mode="json"), "cache": "bypass"},
        queue=CONTROL,
    )
    swarm_id = until(lambda: next((s.id for s in client.list() if s.task == "Revoke me"), None), "the swarm")
    handle = client.get(swarm_id)
    gone = fleet.server.clients_gone
    until(lambda: fleet.server.in_flight or None, "the model call")
    producer.control.revoke(result.id, terminate=True)
    ended = handle.result(TIMEOUT)
    assert ended.state == "cancelled"
    assert fleet.server.clients_gone == gone + 1
