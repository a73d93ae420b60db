"""A stock Flower on swarmq's application: what it shows is true and tells no secrets, and its buttons work."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from celery import Celery
from fleet_stack import FleetStack, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.fleet.app import celery_url
from swarmq.fleet.dispatch import branch_task_id
from swarmq.models.swarm import SubtaskStatus

PROMPT = "with-a-prompt-that-must-not-leak"
TIMEOUT = 60.0
PLAN = Plan(
    subtasks=(
        Subtask(name="Alpha", instruction=f"Write alpha {PROMPT}"),
        Subtask(name="Endless", instruction=f"Keep reading {PROMPT}"),
        Subtask(name="Endless too", instruction=f"Keep reading {PROMPT}"),
        Subtask(name="Gamma", instruction="Write gamma after both", dependencies=("Alpha",)),
    )
)


@pytest.fixture(scope="module")
def fleet() -> Iterator[FleetStack]:
    with running_fleet() as running:
        yield running


@pytest.fixture(scope="module")
def flower(fleet: FleetStack) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ("--app", "swarmq.fleet.app", "flower", "--address=127.0.0.1", f"--port={port}")
    fleet.start("flower", *arguments, module="celery", FLOWER_UNAUTHENTICATED_API="true")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:

        def answers() -> bool:
            try:
                # The workers' own list is asked for once: Flower learns the queues of each from it.
                return len(http.get("/api/workers", params={"refresh": "1"}).json()) >= 3
            except (httpx.TransportError, json.JSONDecodeError):
                return False

        until(answers, "Flower", TIMEOUT)
        yield http


@pytest.fixture
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


def tasks_of(flower: httpx.Client, text: str = "") -> dict[str, dict[str, Any]]:
    """Tasks by their id, those whose id or arguments hold the text."""
    found: dict[str, dict[str, Any]] = flower.get("/api/tasks").json()
    return {id_: task for id_, task in found.items() if text in id_ or text in str(task["args"])}


def test_a_swarm_in_flower(fleet: FleetStack, flower: httpx.Client, client: Client) -> None:
    handle = client.submit(PLAN, repo=fleet.repository("flower"), max_steps_per_subagent=500)
    ended, cancelled = (branch_task_id(handle.id, name) for name in ("endless", "endless-too"))
    until(
        lambda: {ended, cancelled} <= {id_ for id_, task in tasks_of(flower).items() if task["state"] == "STARTED"},
        "the agents",
    )

    answer = flower.post(f"/api/task/revoke/{ended}", params={"terminate": "true"})
    assert answer.status_code == 200, answer.text
    handle.cancel(branch="endless-too")
    result = handle.result(TIMEOUT)

    statuses = {subtask.name: subtask.status for subtask in result.subtasks}
    assert statuses["Alpha"] is SubtaskStatus.SUCCEEDED
    assert statuses["Endless"] is statuses["Endless too"] is SubtaskStatus.CANCELLED
    assert statuses["Gamma"] is not SubtaskStatus.CANCELLED  # the swarm went on to its next stage

    def settled() -> dict[str, dict[str, Any]] | None:
        found = tasks_of(flower, handle.id)
        over = all(task["state"] not in ("PENDING", "RECEIVED", "STARTED") for task in found.values())
        return found if over and any(task["name"] == "swarmq.finish_swarm" for task in found.values()) else None

    found = until(settled, "the last events")
    shown = {(task["name"], task["args"]) for task in found.values()}
    assert ("swarmq.run_branch", f"(alpha of {handle.id})") in shown
    assert ("swarmq.finish_stage", f"(stage 0 of {handle.id})") in shown
    assert ("swarmq.finish_swarm", f"({handle.id})") in shown
    assert "FAILURE" not in {task["state"] for task in found.values()}
    for id_ in (ended, cancelled):
        assert found[id_]["state"] == "REVOKED" or "cancelled" in found[id_]["result"]
    assert "completed" in found[branch_task_id(handle.id, "alpha")]["result"]

    pages = ("info", "result")
    said = [flower.get(f"/api/task/{page}/{id_}") for page in pages for id_ in found]
    assert {answer.status_code for answer in said} == {200}
    assert '"status": "completed"' in " ".join(answer.text for answer in said)
    for secret in (PROMPT, "sk-must-not-leak", fleet.password, "Write alpha"):
        assert secret not in " ".join(answer.text for answer in said)


def test_a_message_of_a_producer_that_knows_nothing_of_swarmq(fleet: FleetStack, flower: httpx.Client) -> None:
    """Its Celery puts all that it sends into the message's headers; the workers do not pass that on."""
    producer = Celery(broker=celery_url(fleet.url), set_as_current=False)
    options = {"repo": str(fleet.repository("plain")), "strategy": "none", "cache": "bypass"}
    sent = producer.send_task(
        "swarmq.swarm", kwargs={"task": f"Write alpha {PROMPT}", **options}, queue="swarmq.control"
    )
    until(lambda: tasks_of(flower).get(sent.id, {}).get("state") == "SUCCESS" or None, "the swarm's end", TIMEOUT)
    info = flower.get(f"/api/task/info/{sent.id}").json()
    assert info["result"].startswith("{'id': ")
    assert "succeeded" in info["result"]
    assert PROMPT not in json.dumps(info)
    assert PROMPT not in json.dumps(flower.get("/api/tasks").json())


def test_queues_and_workers_are_shown(fleet: FleetStack, flower: httpx.Client) -> None:
    queues = {queue["name"] for queue in flower.get("/api/queues/length").json()["active_queues"]}
    assert queues >= {"swarmq.control", "swarmq.integrate", "swarmq.agents"}
    workers = flower.get("/api/workers").json()
    assert {name.partition("-")[0] for name in workers} >= {"control", "integrate", "agents"}
    broker = flower.get("/broker").text
    assert "swarmq.agents" in broker
    assert fleet.password not in broker + json.dumps(workers)
