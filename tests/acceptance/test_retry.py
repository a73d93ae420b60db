"""Trying a swarm again with a real fleet: nothing that was done or paid for is done or paid for again."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from fleet_stack import FleetStack, git, running_fleet

from swarmq import Client, Plan, Subtask, SwarmState
from swarmq.models.branch import Exit
from swarmq.models.events import EventType
from swarmq.testing.script import Playback, Script

TIMEOUT = 60.0
STUMBLE = Subtask(name="Stumble", instruction="Stumble on the way")
ALPHA = Subtask(name="Alpha", instruction="Write alpha")
COUNTING = Subtask(name="Counting", instruction="Count ten steps")
SLOW = Subtask(name="Slow", instruction="Be slow", kind="read")
WRITES = """
conversations:
  - match: "Stumble on the way"
    turns:
      - tool_calls: [{name: write, arguments: {file_path: one.txt, content: "one\\n"}}]
      - tool_calls: [{name: bash, arguments: {command: "cat one.txt one.txt > two.txt"}}]
"""
FAILS = WRITES + '      - {error: {status: 401, message: "bad key"}, times: 1000}\n'
WORKS = (
    WRITES
    + """
      - tool_calls: [{name: bash, arguments: {command: "cat one.txt two.txt > three.txt"}}]
      - text: "All three are there."
"""
)


@pytest.fixture
def fleet() -> Iterator[FleetStack]:
    """A fleet for each test: they change what its model answers."""
    with running_fleet() as running:
        yield running


@pytest.fixture
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


def answers_seen(fleet: FleetStack, match: str) -> list[int]:
    """How many answers of the model each request already held."""
    return [request.answers for request in fleet.server.requests if request.match == match]


def follow_script(fleet: FleetStack, text: str) -> None:
    fleet.server._playback = Playback(Script.parse(text))


def test_after_a_bad_key_it_goes_on_behind_the_last_answer(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("stumbled")
    follow_script(fleet, FAILS)
    first = client.submit(Plan(subtasks=(STUMBLE,)), repo=repo)
    result = first.result(TIMEOUT)
    assert (result.state, result.subtasks[0].fault) == (SwarmState.FAILED, "infrastructure")
    assert "bad key" in (result.subtasks[0].error or "")
    assert answers_seen(fleet, "Stumble on the way") == [0, 1, 2]

    follow_script(fleet, WORKS)
    assert [(one.how, one.step) for one in first.prospects()] == [("continued", 3)]
    again = first.retry_failed()
    result = again.result(TIMEOUT)
    assert result.success, result.report
    assert answers_seen(fleet, "Stumble on the way") == [0, 1, 2, 2, 3]
    for name, text in (("one", "one\n"), ("two", "one\none\n"), ("three", "one\none\none\n")):
        assert git(repo, "show", f"{result.branch}:{name}.txt") == text
    assert result.stats.total_steps == 2
    assert result.subtasks[0].continued_from == f"{first.id}/stumble"
    resumed = [event.data for event in again.events() if event.type is EventType.BRANCH_RESUMED]
    assert resumed == [{"step": 3, "continues": f"{first.id}/stumble"}]
    assert git(repo, "log", "--format=%s", f"main..{result.branch}^2").splitlines() == [
        "Stumble: Stumble on the way"
    ], "the checkpoint is not part of the history"


def test_a_spent_budget_is_raised_on_the_command_line(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("spent")
    first = client.submit(Plan(subtasks=(ALPHA, COUNTING)), repo=repo, max_total_steps=5, max_subagents=1)
    result = first.result(TIMEOUT)
    assert (result.state, result.limit) == (SwarmState.PARTIAL, "max_total_steps")
    branch = next(branch for branch in first.branches() if branch.spec.id == "counting")
    assert branch.outcome is not None
    assert (branch.outcome.exit, branch.outcome.steps) == (Exit.BUDGET_EXHAUSTED, 3)

    done = fleet.run_cli("retry", first.id, "--failed", "--max-total-steps", "7", "--json", timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    assert "alpha from the cache: it succeeded" in lines
    assert "counting continues at step 4: a limit of the swarm ended it" in lines
    assert any(f"resumed at step 4, continuing {first.id}/counting" in line for line in lines)
    again = orjson.loads(done.stdout)
    assert [(one["cached"], one["continued_from"]) for one in again["subtasks"]] == [
        (True, None),
        (False, f"{first.id}/counting"),
    ]
    assert again["stats"]["total_steps"] == 7
    assert git(repo, "show", f"{again['branch']}:steps.txt").split() == [str(n) for n in range(1, 10)]
    assert answers_seen(fleet, "Count ten steps") == list(range(10)), "no step was paid for twice"
    assert fleet.requests("Write alpha") == 2


def test_what_cannot_be_is_refused_in_one_line(fleet: FleetStack, client: Client) -> None:
    handle = client.submit(Plan(subtasks=(SLOW,)), repo=fleet.repository("refused"))
    for arguments, said in (
        (("retry", handle.id, "--failed"), f"wait for its end with 'swarmq watch {handle.id}'"),
        (("merge", handle.id), f"follow it with 'swarmq watch {handle.id}'"),
        (("cancel", "nosuchswarm"), "there is no swarm nosuchswarm; 'swarmq ls' shows"),
        (("run", "x", "--no-repo", "--max-subagents", "0"), "--max-subagents: Input should be greater than or equal"),
        (("run", "x", "--no-repo", "--model-call-timeout-seconds", "9", "--step-timeout-seconds", "5"), "lower it, or"),
    ):
        done = fleet.run_cli(*arguments)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert said in done.stderr
    unknown = fleet.run_cli("cancel", handle.id, "nosuchbranch")
    assert unknown.returncode == 2
    assert f"swarm {handle.id} has no branch 'nosuchbranch'" in unknown.stderr
    handle.cancel("enough")
    assert handle.result(TIMEOUT).state is SwarmState.CANCELLED
    late = fleet.run_cli("cancel", handle.id)
    assert (late.returncode, late.stderr.splitlines()) == (
        2,
        [f"error: swarm {handle.id} had ended already; see how with 'swarmq show {handle.id}'"],
    )
