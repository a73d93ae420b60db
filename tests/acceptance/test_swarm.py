"""A swarm for real: workers and beat as processes, git, HTTP to a model server."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_stack import FleetStack, git, until

from swarmq import Client, Plan, Subtask, SwarmState
from swarmq.errors import NotFoundError, OptionError, UsageError
from swarmq.models.branch import Exit
from swarmq.models.events import EventType
from swarmq.models.swarm import SubtaskStatus

ALPHA = Subtask(name="Alpha", instruction="Write alpha")
BETA = Subtask(name="Beta", instruction="Write beta")
GAMMA = Subtask(name="Gamma", instruction="Write gamma after both", dependencies=("Alpha", "Beta"))
LEFT = Subtask(name="Left", instruction="Rename left", priority=1)
RIGHT = Subtask(name="Right", instruction="Rename right")
TIMEOUT = 30.0


def test_a_planned_task_becomes_a_merged_branch(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("planned")
    (repo / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch hooked\n")
    (repo / ".git" / "hooks" / "post-checkout").chmod(0o755)
    before = git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), git(repo, "branch")
    handle = client.submit("Split this task", repo=repo)
    result = handle.result(TIMEOUT)

    assert result.state is SwarmState.SUCCEEDED, result.report
    assert [subtask.name for subtask in result.subtasks] == ["Alpha", "Beta", "Gamma"]
    assert [subtask.stage for subtask in result.subtasks] == [0, 0, 1]
    assert git(repo, "show", f"swarmq/{handle.id}:gamma.txt") == "alpha\nbeta\n"
    assert result.branch == f"swarmq/{handle.id}"
    assert result.commit == git(repo, "rev-parse", f"swarmq/{handle.id}").strip()
    assert "Swarmq-Subtask: alpha" in git(repo, "log", f"swarmq/{handle.id}")

    # The user's checkout, index, branches and hooks are as they were, but for the new branch.
    after = git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD")
    assert after == before[:2]
    assert git(repo, "branch").replace(f"  swarmq/{handle.id}\n", "") == before[2]
    assert not list(Path(repo).rglob("hooked"))
    assert git(repo, "for-each-ref", "--format=%(refname)", "refs/swarmq").split() == [f"refs/swarmq/{handle.id}/base"]

    assert [(artifact.subtask_id, artifact.files) for artifact in result.artifacts] == [
        ("alpha", ("alpha.txt",)),
        ("beta", ("beta.txt",)),
        ("gamma", ("gamma.txt",)),
    ]
    assert result.artifacts[-1].commit == result.commit
    assert "+beta" in handle.diff(result.artifacts[1].branch_id)

    stats = result.stats
    assert [stage.subagents for stage in stats.stages] == [2, 1]
    assert stats.total_steps == 6
    assert stats.critical_path_steps == 4
    assert stats.usage.input_tokens > 0
    for name in ("alpha", "beta", "gamma"):
        assert f"{name}" in result.report.lower()
    worktrees = fleet.root / "state" / "swarms" / handle.id / "worktrees"
    assert not worktrees.exists() or not list(worktrees.iterdir())


def test_events_tell_the_story_and_can_be_resumed(fleet: FleetStack, client: Client) -> None:
    handle = client.submit(Plan(subtasks=(ALPHA,)), repo=fleet.repository("events"))
    events = list(handle.events())
    types = [event.type for event in events]
    assert types[0] is EventType.SWARM_STARTED
    assert types[-1] is EventType.SWARM_FINISHED
    order = [
        EventType.SWARM_PLANNED,
        EventType.STAGE_STARTED,
        EventType.BRANCH_QUEUED,
        EventType.BRANCH_STARTED,
        EventType.BRANCH_STEP,
        EventType.BRANCH_TOOL_CALL,
        EventType.BRANCH_FINISHED,
        EventType.MERGED,
        EventType.STAGE_FINISHED,
    ]
    places = [types.index(type_) for type_ in order]
    assert places == sorted(places)
    middle = len(events) // 2
    assert list(handle.events(after=events[middle].id)) == events[middle + 1 :]
    transcript = handle.transcript("alpha")
    assert [entry.message.role for entry in transcript] == ["system", "user", "assistant", "tool", "assistant"]
    with pytest.raises(NotFoundError):
        handle.transcript("omega")


def test_two_branches_that_conflict_are_reported_with_both_diffs(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("conflict")
    dependent = Subtask(name="After right", instruction="Write alpha", dependencies=("Right",))
    handle = client.submit(Plan(subtasks=(LEFT, RIGHT, dependent)), repo=repo, cache="bypass")
    result = handle.result(TIMEOUT)
    assert result.state is SwarmState.PARTIAL
    status = {subtask.name: subtask.status for subtask in result.subtasks}
    assert status == {
        "Left": SubtaskStatus.SUCCEEDED,
        "Right": SubtaskStatus.CONFLICT,
        "After right": SubtaskStatus.BLOCKED,
    }
    conflicting = result.subtasks[1]
    assert conflicting.merge is not None
    assert conflicting.merge.conflicts == ("shared.txt",)
    ours, theirs = conflicting.merge.diffs["shared.txt"]
    assert "+left" in ours
    assert "+right" in theirs
    assert "+left" in result.report
    assert "+right" in result.report
    assert "blocked by Right" in (result.subtasks[2].error or "")
    assert git(repo, "show", f"swarmq/{handle.id}:shared.txt") == "first\nleft\nlast\n"
    assert "+right" in handle.diff("right")


def test_what_a_branch_does_wrong_fails_that_branch_alone(fleet: FleetStack, client: Client) -> None:
    idle = Subtask(name="Idle", instruction="Change nothing")
    reader = Subtask(name="Reader", instruction="Look at the file", kind="read")
    refused = Subtask(name="Refused", instruction="Answer with an error", kind="read")
    clumsy = Subtask(name="Clumsy", instruction="Misuse the tools")
    repo = fleet.repository("failures")
    handle = client.submit(Plan(subtasks=(idle, reader, refused, clumsy)), repo=repo, cache="bypass")
    result = handle.result(TIMEOUT)
    idle_result, reader_result, refused_result, clumsy_result = result.subtasks
    assert (idle_result.status, idle_result.fault) == (SubtaskStatus.FAILED, "agent")
    assert "without changing any file" in (idle_result.error or "")
    assert reader_result.success
    assert (refused_result.status, refused_result.fault) == (SubtaskStatus.FAILED, "infrastructure")
    assert "bad key" in (refused_result.error or "")
    assert clumsy_result.success, clumsy_result.error
    results = handle.transcript("clumsy")[3].message.tool_results
    assert [part.is_error for part in results[:3]] == [True, True, True]
    assert len(results[3].content) < 40_000
    assert git(repo, "show", f"swarmq/{handle.id}:misuse.txt") == "survived\n"


def test_the_second_time_comes_from_the_cache_with_its_commits(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("cached")
    plan = Plan(subtasks=(ALPHA, BETA, GAMMA))
    first = client.submit(plan, repo=repo).result(TIMEOUT)
    assert first.success, first.report
    calls = fleet.server.calls
    second = client.submit(plan, repo=repo).result(TIMEOUT)
    assert second.success, second.report
    assert fleet.server.calls == calls
    assert second.stats.cache_hits == 3
    assert all(subtask.cached for subtask in second.subtasks)
    assert git(repo, "rev-parse", f"{second.branch}^{{tree}}") == git(repo, "rev-parse", f"{first.branch}^{{tree}}")


def test_equal_work_of_swarms_that_run_at_once_is_done_once(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("equal")
    plan = Plan(subtasks=(Subtask(name="Timely", instruction="Take your time"),))
    calls = fleet.requests("Take your time")
    handles = [client.submit(plan, repo=repo) for _ in range(3)]
    results = [handle.result(TIMEOUT) for handle in handles]
    assert all(result.success for result in results), [result.report for result in results]
    assert fleet.requests("Take your time") == calls + 4
    assert sorted(result.stats.cache_hits for result in results) == [0, 1, 1]
    for result in results:
        assert git(repo, "show", f"{result.branch}:time.txt") == "1\n2\n3\n"
    spared = [result.stats.saved_by_cache for result in results if result.stats.cache_hits]
    assert [(saved.steps, saved.tokens) for saved in spared] == [(4, 4400)] * 2
    shown = fleet.run_cli("show", next(result.id for result in results if result.stats.cache_hits)).stdout
    assert "4 steps, 4,400 tokens" in shown


def test_a_swarm_is_compared_with_one_agent_that_did_the_same(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("alone")
    alone = client.submit("Take your time", strategy="none", repo=repo, cache="bypass").result(TIMEOUT)
    assert alone.success, alone.report
    assert alone.stats.baseline is None
    plan = Plan(subtasks=(ALPHA, BETA))
    split = client.submit("Take your time", plan=plan, repo=repo).result(TIMEOUT)
    assert split.stats.baseline is not None
    assert (split.stats.baseline.swarm, split.stats.baseline.tokens) == (alone.id, 4400)
    assert split.stats.speedup_over_baseline == alone.stats.wall_seconds / split.stats.wall_seconds
    assert f"Compared with swarm {alone.id}" in split.report
    named = client.submit("Something else", plan=plan, repo=repo, baseline=split.id).result(TIMEOUT)
    assert named.stats.baseline is not None
    assert named.stats.baseline.swarm == split.id
    with pytest.raises(NotFoundError, match="nosuchswarm"):
        client.submit("Something else", plan=plan, repo=repo, baseline="nosuchswarm")


def test_subtasks_that_declare_the_same_file_can_be_put_in_order(fleet: FleetStack, client: Client) -> None:
    alpha, beta = (one.model_copy(update={"files": ("beta.txt",)}) for one in (ALPHA, BETA))
    plan = Plan(subtasks=(alpha, beta))
    handle = client.submit(plan, repo=fleet.repository("declared"), declared_overlaps="order", cache="bypass")
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert [(one.name, one.stage) for one in result.subtasks] == [("Alpha", 0), ("Beta", 1)]
    planned = next(event for event in handle.events() if event.type is EventType.SWARM_PLANNED)
    assert "Beta for Alpha" in planned.data["note"]
    strayed, exact = (one.declared for one in result.subtasks)
    assert strayed is not None
    assert (strayed.undeclared, strayed.untouched) == (("alpha.txt",), ("beta.txt",))
    assert exact is not None
    assert (exact.undeclared, exact.untouched) == ((), ())
    assert "Changed, but not declared in the plan: alpha.txt" in result.report
    assert "1 file changed that the plan does not declare" in fleet.run_cli("show", handle.id).stdout


def test_retry_pays_only_for_what_failed(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("retried")
    idle = Subtask(name="Idle", instruction="Change nothing")
    handle = client.submit(Plan(subtasks=(ALPHA, idle)), repo=repo)
    assert handle.result(TIMEOUT).state is SwarmState.PARTIAL
    alpha_calls = fleet.requests("Write alpha")
    again = handle.retry_failed()
    assert again.id != handle.id
    assert again.result(TIMEOUT).state is SwarmState.PARTIAL
    assert fleet.requests("Write alpha") == alpha_calls
    with pytest.raises(UsageError, match="nothing to retry"):
        client.submit(Plan(subtasks=(ALPHA,)), repo=repo).result(TIMEOUT) and client.get("last").retry_failed()


def test_on_failure_stop_ends_the_swarm_at_the_stage(fleet: FleetStack, client: Client) -> None:
    idle = Subtask(name="Idle", instruction="Change nothing")
    later = Subtask(name="Later", instruction="Write beta", dependencies=("Alpha",))
    plan = Plan(subtasks=(ALPHA, idle, later))
    result = client.submit(plan, repo=fleet.repository("stop"), on_failure="stop", cache="bypass").result(TIMEOUT)
    assert [subtask.status for subtask in result.subtasks] == ["succeeded", "failed", "blocked"]


def test_limits_hold_while_running(fleet: FleetStack, client: Client) -> None:
    counting = Subtask(name="Counting", instruction="Count ten steps")
    repo = fleet.repository("limits")
    steps = client.submit(Plan(subtasks=(counting,)), repo=repo, max_steps_per_subagent=2, cache="bypass")
    result = steps.result(TIMEOUT)
    branch = steps.branches()[0]
    assert branch.outcome is not None
    assert (branch.outcome.exit, branch.outcome.steps) == (Exit.MAX_STEPS, 2)
    assert result.limit == "max_steps_per_subagent"
    assert branch.outcome.checkpoint is not None
    assert "steps.txt" in steps.diff("counting", stat=True)

    plan = Plan(
        subtasks=tuple(Subtask(name=f"Reader {n}", instruction="Look at the file", kind="read") for n in range(6))
    )
    total = client.submit(plan, repo=repo, max_total_steps=5, max_subagents=2, cache="bypass")
    result = total.result(TIMEOUT)
    assert result.limit == "max_total_steps"
    assert result.stats.total_steps == 5
    assert [subtask.limit for subtask in result.subtasks].count("max_total_steps") == 4


def test_a_refused_call_holds_the_endpoint_and_waiting_branches_say_so(fleet: FleetStack, client: Client) -> None:
    refused = Subtask(name="Refused", instruction="Ask too much", kind="read")
    others = (Subtask(name=f"Reader {n}", instruction="Look at the file", kind="read") for n in range(4))
    plan = Plan(subtasks=(refused, *others))
    handle = client.submit(plan, repo=fleet.repository("limited"), cache="bypass", model="limited:scripted")
    limited = [event for event in handle.events() if event.type is EventType.BRANCH_RATE_LIMITED]
    result = handle.result(TIMEOUT)
    assert result.success
    assert [event.data for event in limited] == [{"endpoint": "limited", "reason": "refused"}] * len(limited) != []
    assert result.stats.rate_limit_wait_seconds > 2


def test_max_subagents_is_never_exceeded(fleet: FleetStack, client: Client) -> None:
    plan = Plan(
        subtasks=tuple(Subtask(name=f"Reader {n}", instruction="Look at the file", kind="read") for n in range(9))
    )
    handle = client.submit(plan, repo=fleet.repository("narrow"), max_subagents=2, cache="bypass")
    running, most = set(), 0
    for event in handle.events():
        if event.type is EventType.BRANCH_STARTED:
            running.add(event.branch)
        elif event.type is EventType.BRANCH_FINISHED:
            running.discard(event.branch)
        most = max(most, len(running))
    assert most == 2
    assert handle.result(TIMEOUT).success


def test_cancelling_stops_the_model_call(fleet: FleetStack, client: Client) -> None:
    slow = Subtask(name="Slow", instruction="Be slow", kind="read")
    waits = Subtask(name="Waits", instruction="Write alpha", dependencies=("Slow",))
    handle = client.submit(Plan(subtasks=(slow, waits)), repo=fleet.repository("cancelled"), cache="bypass")
    gone = fleet.server.clients_gone
    until(lambda: fleet.requests("Be slow") or None, "the model call")
    assert handle.cancel("enough")
    result = handle.result(TIMEOUT)
    assert result.state is SwarmState.CANCELLED
    assert [subtask.status for subtask in result.subtasks] == ["cancelled", "cancelled"]
    assert "enough" in (result.subtasks[0].error or "")
    assert fleet.server.clients_gone == gone + 1
    assert not handle.cancel()


def test_a_cancel_in_the_middle_of_steps_leaves_no_record_half_way(fleet: FleetStack, client: Client) -> None:
    plan = Plan(subtasks=tuple(Subtask(name=f"Busy {n}", instruction="Keep reading", kind="read") for n in range(20)))
    handle = client.submit(plan, repo=fleet.repository("busy"), cache="bypass")
    until(lambda: handle.status().steps > 200 or None, "the steps")
    handle.cancel("enough")
    assert handle.result(TIMEOUT).state is SwarmState.CANCELLED
    outcomes = [branch.outcome for branch in handle.branches()]
    assert [outcome.exit for outcome in outcomes if outcome] == [Exit.CANCELLED] * 20
    assert all(outcome and outcome.steps for outcome in outcomes), "each was ended by the worker that ran it"


def test_the_same_idempotency_key_gives_the_same_swarm(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("once")
    first = client.submit(Plan(subtasks=(ALPHA,)), repo=repo, idempotency_key="k-1")
    second = client.submit(Plan(subtasks=(BETA,)), repo=repo, idempotency_key="k-1")
    assert second.id == first.id
    assert second.result(TIMEOUT).success


def test_research_needs_no_repository(fleet: FleetStack, client: Client) -> None:
    plan = Plan(subtasks=(Subtask(name="Think", instruction="Change nothing", kind="read"),))
    result = client.submit(plan, synthesize=True, cache="bypass").result(TIMEOUT)
    assert result.success, result.error
    assert result.branch is None
    assert result.answer == "The synthesis of all results."
    assert result.compact()["report"] == result.answer
    with pytest.raises(OptionError, match="repository"):
        client.submit(Plan(subtasks=(ALPHA,)))


def test_a_plan_that_never_comes_falls_back_to_one_subtask(fleet: FleetStack, client: Client) -> None:
    handle = client.submit("Never plan this well. Write alpha", repo=fleet.repository("fallback"))
    result = handle.result(TIMEOUT)
    assert len(result.subtasks) == 1
    planned = next(event for event in handle.events() if event.type is EventType.SWARM_PLANNED)
    assert "one subtask" in planned.data["note"]


def test_setup_copies_and_environment_make_a_worktree_ready(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("ready", {".gitignore": "*.secret\n", "shared.txt": "x\n"})
    (repo / "local.secret").write_text("copied\n")
    plan = Plan(subtasks=(Subtask(name="Beta", instruction="Write beta"),))
    handle = client.submit(
        plan,
        repo=repo,
        setup='cat local.secret > ready.txt && echo "$GREETING $TEST_ONLY_API_KEY" >> ready.txt',
        copy_globs=("*.secret",),
        env={"GREETING": "hello"},
        cache="bypass",
    )
    assert handle.result(TIMEOUT).success
    assert git(repo, "show", f"swarmq/{handle.id}:ready.txt") == "copied\nhello \n"
    failing = client.submit(plan, repo=repo, setup="echo no such tool; exit 3", cache="bypass").result(TIMEOUT)
    assert failing.subtasks[0].fault == "infrastructure"
    assert "exit code 3" in (failing.subtasks[0].error or "")


def test_bad_requests_are_refused_at_submit(fleet: FleetStack, client: Client, tmp_path: Path) -> None:
    repo = fleet.repository("bad")
    count = len(client.list())
    with pytest.raises(OptionError, match="max_stepz: no such field"):
        client.submit("x", repo=repo, max_stepz=3)
    with pytest.raises(UsageError, match=r"repository"):
        client.submit("x", repo=tmp_path)
    (repo / "dirty.txt").write_text("x")
    (repo / "shared.txt").write_text("changed\n")
    with pytest.raises(UsageError, match=r"shared\.txt"):
        client.submit("x", repo=repo)
    assert len(client.list()) == count


def test_no_secret_is_anywhere(fleet: FleetStack) -> None:
    """After all the tests above: logs of the workers hold neither the password nor the keys of the environment."""
    password = fleet.url.split(":")[2].split("@")[0]
    for name in ("control", "integrate", "agents", "beat"):
        assert password not in fleet.log(name)
        assert "sk-must-not-leak" not in fleet.log(name)
        assert "Traceback" not in fleet.log(name)
