"""A swarm that is tried again: what its branches take over from the earlier one, and what they do not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import StatelessModel, call, says
from fleet_fakes import OneModel, Sent, git, repository

from swarmq.client import AsyncClient, AsyncSwarmHandle
from swarmq.errors import OptionError, UsageError
from swarmq.fleet.branch import run_branch
from swarmq.fleet.continuing import prospects
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import repository_of, start_stage
from swarmq.models.branch import Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.options import SwarmOptions, changed_options
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmRecord, SwarmSpec, SwarmState
from swarmq.settings import load_settings
from swarmq.store import keys
from swarmq.store.store import Store

ALPHA = Subtask(name="Alpha", instruction="Write the files")
BETA = Subtask(name="Beta", instruction="Write the other files")
READER = Subtask(name="Reader", instruction="Look", kind="read")
FIRST, SECOND, THIRD = "first00000", "second0000", "third00000"


def writes(name: str) -> Any:
    return says("", call("write", f"call-{name}", file_path=f"{name}.txt", content=f"{name}\n"))


TURNS = (writes("one"), writes("two"), writes("three"), says("All three are written."))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path / "state", lease_seconds=30, model="test:x")
    return Runtime(settings, store, OneModel(model=StatelessModel(*TURNS)), Sent(), "worker")  # type: ignore[arg-type]


def asked(runtime: Runtime) -> int:
    assert isinstance(runtime.models, OneModel)
    return runtime.models.model.asked


def spec(repo: Path | None, swarm_id: str = FIRST, **options: Any) -> SwarmSpec:
    return SwarmSpec(
        id=swarm_id,
        task="write",
        options=SwarmOptions.parse({"max_steps_per_subagent": 2} | options),
        repo=None if repo is None else str(repo),
        base_commit=None if repo is None else git(repo, "rev-parse", "HEAD"),
        created_at=time.time(),
        celery_task_id=f"task-{swarm_id}",
    )


def retried(earlier: SwarmSpec, swarm_id: str = SECOND, **options: Any) -> SwarmSpec:
    """As ``retry_failed`` makes it."""
    options = {"max_steps_per_subagent": 10} | options
    changes = {"id": swarm_id, "celery_task_id": swarm_id, "retry_of": earlier.id}
    return earlier.model_copy(update={**changes, "options": changed_options(earlier.options, options)})


async def run(runtime: Runtime, spec: SwarmSpec, *subtasks: Subtask) -> SwarmRecord:
    """Run the whole swarm in this process."""
    plan = Plan(subtasks=subtasks or (ALPHA,))
    await runtime.store.swarms.create(spec)
    await runtime.store.swarms.set_plan(spec.id, plan)
    for number in range(len(plan.stages)):
        await start_stage(runtime, spec.id)
        for branch in await runtime.store.branches.load_all(spec.id):
            if branch.spec.stage == number:
                await run_branch(runtime, spec.id, branch.spec.id, None, None)
        await finish_stage(runtime, spec.id, number)
    await finish_swarm(runtime, spec.id)
    return await runtime.store.swarms.load(spec.id)


async def outcome_of(runtime: Runtime, swarm_id: str, branch_id: str = "alpha") -> Outcome:
    outcome = (await runtime.store.branches.load(swarm_id, branch_id)).outcome
    assert outcome is not None
    return outcome


async def told(runtime: Runtime, swarm_id: str, type_: EventType) -> list[Event]:
    return [event for event in await runtime.store.events.read(swarm_id) if event.type is type_]


async def why_anew(runtime: Runtime, swarm_id: str = SECOND) -> list[str]:
    return [str(event.data["reason"]) for event in await told(runtime, swarm_id, EventType.BRANCH_ANEW)]


async def test_it_goes_on_with_conversation_and_files_and_pays_for_no_step_twice(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    record = await run(runtime, first)
    assert (record.state, (await outcome_of(runtime, FIRST)).exit) == (SwarmState.FAILED, Exit.MAX_STEPS)
    assert asked(runtime) == 2
    record = await run(runtime, retried(first, max_total_steps=2))
    assert record.state is SwarmState.SUCCEEDED, record.result
    assert asked(runtime) == 4
    assert git(repo, "ls-tree", "--name-only", f"swarmq/{SECOND}").split() == [
        "a.txt",
        "one.txt",
        "three.txt",
        "two.txt",
    ]

    outcome = await outcome_of(runtime, SECOND)
    assert (outcome.steps, outcome.tool_calls, outcome.usage.input_tokens) == (2, 1, 200)
    assert record.results["alpha"].continued_from == f"{FIRST}/alpha"
    counters = await runtime.store.swarms.counters(SECOND)
    assert (counters["steps"], counters["tool_calls"], counters["input_tokens"]) == (2, 1, 200)
    assert [event.data for event in await told(runtime, SECOND, EventType.BRANCH_RESUMED)] == [
        {"step": 3, "continues": f"{FIRST}/alpha"}
    ]
    assert [event.data["step"] for event in await told(runtime, SECOND, EventType.BRANCH_STEP)] == [3, 4]

    before = await runtime.store.transcripts.load(FIRST, "alpha")
    entries = await runtime.store.transcripts.load(SECOND, "alpha")
    adopted = [entry for entry in entries if entry.adopted_from is not None]
    assert [entry.message for entry in adopted] == [entry.message for entry in before[2:]]
    assert [entry.usage for entry in adopted] == [entry.usage for entry in before[2:]]
    assert "all of its 2 steps" in entries[2 + len(adopted)].message.text
    assert f"{SECOND}/worktrees/alpha-1" in entries[2 + len(adopted)].message.text


async def test_a_holder_that_is_lost_before_it_recorded_anything_costs_nothing(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    await run(runtime, first)
    second = retried(first)
    await runtime.store.swarms.create(second)
    await runtime.store.swarms.set_plan(SECOND, Plan(subtasks=(ALPHA,)))
    await start_stage(runtime, SECOND)
    assert (await runtime.store.branches.claim(SECOND, "alpha", "lost", 0)).status == "claimed"
    await run_branch(runtime, SECOND, "alpha", None, None)
    outcome = await outcome_of(runtime, SECOND)
    assert (outcome.exit, outcome.steps, outcome.continued_from) == (Exit.COMPLETED, 2, f"{FIRST}/alpha")
    assert asked(runtime) == 4
    assert set(outcome.files) == {"one.txt", "two.txt", "three.txt"}


async def test_what_the_cleaning_saved_is_enough(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    repository = repository_of(runtime, await run(runtime, first))
    assert repository is not None
    await repository.remove()
    assert not (runtime.settings.state_dir / "swarms" / FIRST).exists()
    assert (await run(runtime, retried(first))).state is SwarmState.SUCCEEDED
    assert asked(runtime) == 4


async def lose_the_clone(runtime: Runtime) -> None:
    shutil.rmtree(runtime.settings.state_dir / "swarms" / FIRST)


async def lose_the_records(runtime: Runtime) -> None:
    await runtime.store.swarms.delete(FIRST)


async def break_an_entry(runtime: Runtime) -> None:
    await runtime.store.gate.call("LSET", keys.TRANSCRIPT(FIRST, "alpha"), 3, "{broken")


async def forget_the_version(runtime: Runtime) -> None:
    await runtime.store.gate.call("HSET", keys.SWARM(FIRST), "v", "99")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lose_the_clone, "the files that it left are gone"),
        (lose_the_records, "its records are gone (keep_days is over)"),
        (break_an_entry, "transcript entry 3: it is not a JSON object"),
        (forget_the_version, f"swarm {FIRST}: schema version 99, this swarmq knows 1; update swarmq"),
    ],
)
async def test_what_cannot_be_taken_over_is_said_and_the_branch_starts_anew(
    runtime: Runtime, repo: Path, fault: Callable[[Runtime], Awaitable[None]], reason: str
) -> None:
    first = spec(repo)
    await run(runtime, first)
    await fault(runtime)
    assert (await run(runtime, retried(first))).state is SwarmState.SUCCEEDED
    assert await why_anew(runtime) == [reason]
    assert asked(runtime) == 2 + 4
    outcome = await outcome_of(runtime, SECOND)
    assert (outcome.steps, outcome.continued_from) == (4, None)


async def test_other_files_to_start_from_make_it_start_anew(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    await run(runtime, first)
    (repo / "a.txt").write_text("other\n")
    git(repo, "commit", "-qam", "other")
    moved = retried(first).model_copy(update={"base_commit": git(repo, "rev-parse", "HEAD")})
    assert (await run(runtime, moved)).state is SwarmState.SUCCEEDED
    assert await why_anew(runtime) == ["it starts from other files than before"]


async def test_in_a_later_stage_it_goes_on_where_its_dependencies_came_out_equal(runtime: Runtime, repo: Path) -> None:
    """The second swarm merges the cached result of the first stage by a commit of its own, with the same files."""
    later = BETA.model_copy(update={"dependencies": ("Alpha",)})
    first = spec(repo, max_steps_per_subagent=10)
    assert isinstance(runtime.models, OneModel)
    script = runtime.models.model
    script.turns = [writes("one"), says("One is written.")]
    await runtime.store.swarms.create(first)
    await runtime.store.swarms.set_plan(FIRST, Plan(subtasks=(ALPHA, later)))
    await start_stage(runtime, FIRST)
    await run_branch(runtime, FIRST, "alpha", None, None)
    await finish_stage(runtime, FIRST, 0)
    await start_stage(runtime, FIRST)
    script.turns = [writes("two"), says("", call("nothing"))]  # then there is no third turn: the branch fails
    await run_branch(runtime, FIRST, "beta", None, None)
    assert (await outcome_of(runtime, FIRST, "beta")).exit is Exit.FAILED
    await finish_stage(runtime, FIRST, 1)
    await finish_swarm(runtime, FIRST)

    script.turns, script.asked = [writes("never"), says("Never asked."), says("Two is written.")], 0
    record = await run(runtime, retried(first), ALPHA, later)
    assert record.state is SwarmState.SUCCEEDED, record.result
    assert (record.results["alpha"].cached, record.results["beta"].continued_from) == (True, f"{FIRST}/beta")
    assert script.asked == 1
    assert git(repo, "ls-tree", "--name-only", f"swarmq/{SECOND}").split() == ["a.txt", "one.txt", "two.txt"]


async def test_a_raised_limit_spoils_no_success(runtime: Runtime, repo: Path) -> None:
    """The cache key holds the limits; what succeeded under the old ones is not paid for again."""
    assert isinstance(runtime.models, OneModel)
    first = spec(repo)
    runtime.models.model.turns = [writes("one"), says("One is enough.")]
    await runtime.store.swarms.create(first)
    await runtime.store.swarms.set_plan(FIRST, Plan(subtasks=(ALPHA, BETA)))
    await start_stage(runtime, FIRST)
    await run_branch(runtime, FIRST, "alpha", None, None)
    runtime.models.model.turns = list(TURNS)
    await run_branch(runtime, FIRST, "beta", None, None)
    await finish_stage(runtime, FIRST, 0)
    await finish_swarm(runtime, FIRST)
    before = asked(runtime)
    record = await run(runtime, retried(first), ALPHA, BETA)
    assert record.state is SwarmState.SUCCEEDED, record.result
    assert record.results["alpha"].cached
    assert asked(runtime) - before == 2
    third = await run(runtime, retried(record.spec, THIRD, max_steps_per_subagent=11), ALPHA, BETA)
    assert [result.cached for result in third.results.values()] == [True, True]


async def test_a_retry_that_never_began_hides_nothing(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    await run(runtime, first)
    second = retried(first)
    await runtime.store.swarms.create(second)
    await runtime.store.swarms.set_plan(SECOND, Plan(subtasks=(ALPHA,)))
    await start_stage(runtime, SECOND)
    await runtime.store.branches.cancel(SECOND, "alpha", "enough")
    await finish_stage(runtime, SECOND, 0)
    await finish_swarm(runtime, SECOND)
    assert (await run(runtime, retried(second, THIRD))).state is SwarmState.SUCCEEDED
    assert (await outcome_of(runtime, THIRD)).continued_from == f"{FIRST}/alpha"
    assert asked(runtime) == 4


async def test_a_retry_may_be_tried_again(runtime: Runtime, repo: Path) -> None:
    first = spec(repo, max_steps_per_subagent=1)
    await run(runtime, first)
    second = retried(first, max_steps_per_subagent=1)
    assert (await run(runtime, second)).state is SwarmState.FAILED
    assert (await run(runtime, retried(second, THIRD))).state is SwarmState.SUCCEEDED
    assert asked(runtime) == 4
    outcome = await outcome_of(runtime, THIRD)
    assert (outcome.steps, outcome.continued_from) == (2, f"{SECOND}/alpha")


async def test_anew_is_anew(runtime: Runtime, repo: Path) -> None:
    first = spec(repo)
    await run(runtime, first)
    second = retried(first).model_copy(update={"anew": True})
    assert (await run(runtime, second)).state is SwarmState.SUCCEEDED
    assert (asked(runtime), await why_anew(runtime)) == (6, [])


async def test_research_goes_on_without_files(runtime: Runtime) -> None:
    assert isinstance(runtime.models, OneModel)
    runtime.models.model.turns = [says("", call("nothing")), says("", call("nothing")), says("Looked.")]
    first = spec(None)
    await run(runtime, first, READER)
    assert (await run(runtime, retried(first), READER)).state is SwarmState.SUCCEEDED
    assert asked(runtime) == 3
    assert "directory" not in (await runtime.store.transcripts.load(SECOND, "reader"))[6].message.text


async def test_a_retry_is_foretold(runtime: Runtime, repo: Path) -> None:
    blocked = Subtask(name="Blocked", instruction="Later", dependencies=("Alpha",))
    record = await run(runtime, spec(repo), ALPHA, blocked)
    found = await prospects(runtime.store, record, anew=False, cache="use")
    assert [(one.subtask_id, one.how, one.step) for one in found] == [("alpha", "continued", 3), ("blocked", "anew", 0)]
    assert "steps were used up" in found[0].reason
    assert found[1].reason == "it had not begun"
    assert [one.how for one in await prospects(runtime.store, record, anew=True, cache="use")] == ["anew", "anew"]
    await break_an_entry(runtime)
    assert "entry 3" in (await prospects(runtime.store, record, anew=False, cache="use"))[0].reason


async def test_bad_requests_for_a_retry_are_refused(runtime: Runtime) -> None:
    client = AsyncClient("redis://unused", settings=runtime.settings)
    client._store, client._dispatch = runtime.store, runtime.dispatch
    handle = AsyncSwarmHandle(client, FIRST)
    await runtime.store.swarms.create(spec(None))
    for refused in (handle.retry_failed(), handle.prospects()):
        with pytest.raises(UsageError, match=f"is submitted: wait .*'swarmq watch {FIRST}', or stop it with"):
            await refused
    with pytest.raises(UsageError, match="has not ended yet; follow it with"):
        await handle.merge()
    await runtime.store.swarms.set_error(FIRST, "no")
    await finish_swarm(runtime, FIRST)
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        ({"max_total_steps": 0}, r"^max_total_steps: .*greater than or equal to 1 \(got 0\)"),
        ({"max_stepz": 1}, r"^max_stepz: no such field"),
        ({"model_call_timeout_seconds": 9, "step_timeout_seconds": 5}, r"^model_call_timeout_seconds: 9 is more than"),
    )
    for options, message in refusals:
        with pytest.raises(OptionError, match=message):
            await handle.retry_failed(**options)
    assert not await handle.cancel("too late")
    assert len(await runtime.store.swarms.list(10)) == 1


async def test_a_retry_is_a_swarm_of_its_own_with_the_plan_and_base_of_the_first(runtime: Runtime, repo: Path) -> None:
    """Also where the first one ended before its plan was recorded, for want of a key."""
    client = AsyncClient("redis://unused", settings=runtime.settings)
    client._store, client._dispatch = runtime.store, runtime.dispatch
    plan = Plan(subtasks=(ALPHA,))
    first = spec(repo, idempotency_key="nightly").model_copy(update={"plan": plan, "created_at": 1000.0})
    await runtime.store.swarms.create(first)
    await runtime.store.swarms.set_error(FIRST, "planning failed: no key")
    await finish_swarm(runtime, FIRST)
    again = await AsyncSwarmHandle(client, FIRST).retry_failed(anew=True, max_total_steps=7)
    assert (again.joined, again.id == FIRST) == (False, False)
    made = (await again.record()).spec
    assert (made.plan, made.base_commit, made.retry_of, made.anew) == (plan, first.base_commit, FIRST, True)
    assert made.options == changed_options(first.options, {"max_total_steps": 7})
    assert made.created_at > first.created_at, "reconcile's patience with it starts now"


async def test_an_entry_that_does_not_parse_fails_its_branch_alone(runtime: Runtime, repo: Path) -> None:
    """Not skipped: the model would go on from a conversation that never was."""
    await runtime.store.swarms.create(spec(repo, max_steps_per_subagent=10))
    await runtime.store.swarms.set_plan(FIRST, Plan(subtasks=(ALPHA, BETA)))
    await start_stage(runtime, FIRST)
    assert (await runtime.store.branches.claim(FIRST, "alpha", "lost", 0)).status == "claimed"
    await runtime.store.gate.call("RPUSH", keys.TRANSCRIPT(FIRST, "alpha"), '{"v": 1, "step": 0}')
    await run_branch(runtime, FIRST, "alpha", None, None)
    await run_branch(runtime, FIRST, "beta", None, None)
    await finish_stage(runtime, FIRST, 0)
    await finish_swarm(runtime, FIRST)
    record = await runtime.store.swarms.load(FIRST)
    assert record.state is SwarmState.PARTIAL
    assert record.results["alpha"].error == "transcript entry 0: at: Field required"
    assert record.results["alpha"].fault == "infrastructure"
    assert record.results["beta"].success
