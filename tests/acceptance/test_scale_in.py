"""A fleet that shrinks under load, as an autoscaler shrinks it: nothing is lost, no step is taken twice."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import redis
from fleet_stack import FleetStack, git, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.models.branch import BranchState
from swarmq.store import keys
from swarmq.testing import Script, ScriptedConversation, Turn
from swarmq.testing.script import ScriptedCall

READERS, EDITORS, WORKERS = 36, 4, 4
BRANCHES = READERS + EDITORS
STEPS = 5
TIMEOUT = 120.0


def conversation(number: int) -> ScriptedConversation:
    """Some steps, each slow enough to be interrupted; the first ones append a line to a file."""
    edits = number < EDITORS

    def turn(step: int) -> Turn:
        echo = ScriptedCall(name="bash", arguments={"command": f"echo {step} >> steps-{number}.txt"})
        read = ScriptedCall(name="read", arguments={"file_path": "shared.txt"})
        return Turn(tool_calls=(echo if edits else read,))

    return ScriptedConversation(match=f"Job {number:03}", turns=(*map(turn, range(STEPS)), Turn(text="done")))


SCRIPT = Script(latency_ms=500, conversations=tuple(conversation(number) for number in range(BRANCHES)))
PLAN = Plan(
    subtasks=tuple(
        Subtask(name=f"Job {number:03}", instruction=f"Job {number:03}", kind="edit" if number < EDITORS else "read")
        for number in range(BRANCHES)
    )
)


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    with running_fleet(start=False, script=SCRIPT, SWARMQ_AGENTS_CONCURRENCY=str(BRANCHES)) as running:
        for queue in ("control", "integrate"):
            running.start_worker(queue)
        running.start("beat", "beat")
        running.start("exporter", "exporter", "--address", "127.0.0.1:0")
        for number in range(WORKERS):
            running.start_worker("agents", f"agents-{number}")
        for name in ("control", "integrate", *(f"agents-{number}" for number in range(WORKERS))):
            running.await_worker(name)
        yield running


def metrics(fleet: FleetStack) -> dict[str, float]:
    """What Prometheus would scrape."""
    url = until(lambda: re.search(r"serving (\S+)", fleet.log("exporter")), "the exporter")[1]
    lines = httpx.get(url, timeout=20).raise_for_status().text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_from_four_workers_to_one_with_forty_branches(fleet: FleetStack) -> None:
    repo = fleet.repository("shrinking")
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.submit(PLAN, repo=repo, cache="bypass", max_total_steps=10_000)

        def running() -> list[str] | None:
            found = [branch.worker for branch in handle.branches() if branch.state is BranchState.RUNNING]
            return found if len(found) == BRANCHES else None

        assert len(set(until(running, "forty running branches", TIMEOUT))) == WORKERS
        until(lambda: metrics(fleet)['swarmq_demand{queue="swarmq.agents"}'] == BRANCHES or None, "the demand")
        with redis.Redis(unix_socket_path=str(fleet.root / "valkey.sock"), password=fleet.password) as server:
            until(lambda: server.scard(keys.DEMAND("agents")) == BRANCHES or None, "the set that KEDA counts")

        for number in range(1, WORKERS):
            assert fleet.kill(f"agents-{number}", signal.SIGTERM) == 0
        result = handle.result(TIMEOUT)

        assert result.success, result.report
        assert len(result.subtasks) == BRANCHES
        assert result.stats.lost_leases == 0
        for branch in handle.branches():
            entries = handle.transcript(branch.spec.id)
            assert sum(entry.message.role == "assistant" for entry in entries) == STEPS + 1
            assert branch.deliveries == 0
            if branch.spec.kind != "edit":
                continue
            results = [found for entry in entries for found in entry.message.tool_results]
            # A command that was cut off is not run again blindly: the agent is told to look. This one does not.
            done = [str(step) for step, found in enumerate(results) if not found.is_error]
            file = f"steps-{int(branch.spec.subtask_id.rpartition('-')[2])}.txt"
            lines = git(repo, "show", f"{result.branch}:{file}").split()
            assert len(lines) == len(set(lines))
            assert set(done) <= set(lines)

        asked = Counter((request.match, request.answers) for request in fleet.server.requests if request.status == 200)
        assert len(asked) == BRANCHES * (STEPS + 1)
        repeated = sum(asked.values()) - len(asked)
        handed_over = sum(branch.token - 1 for branch in handle.branches())
        assert handed_over > 0
        assert repeated == 0, "each worker waits for the answers that are under way"
        assert fleet.server.clients_gone <= handed_over

        total = BRANCHES * (STEPS + 1)
        until(lambda: metrics(fleet)["swarmq_steps_total"] == total or None, "the steps of the ended swarm")
        found = metrics(fleet)
        assert found['swarmq_swarms_ended_total{state="succeeded"}'] == 1
        assert found['swarmq_demand{queue="swarmq.agents"}'] == 0
        assert found['swarmq_workers{queue="swarmq.agents"}'] == 1
        assert found["swarmq_redis_up"] == 1
    fleet.kill_valkey()
    until(lambda: metrics(fleet) == {"swarmq_redis_up": 0} or None, "the exporter's word of Redis")
    fleet.start_valkey()
    assert fleet.kill("exporter", signal.SIGTERM) == 0
