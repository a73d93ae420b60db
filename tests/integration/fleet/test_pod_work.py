"""Branches in pods of their own: what their supervisor makes of a log, and of a pod that does not last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import compress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fleet_fakes import Sent, git, repository
from local_pods import LocalPods, instead
from valkey_server import Valkey

from swarmq.fleet.branch import run_branch
from swarmq.fleet.ending import cancel_branch
from swarmq.fleet.pausing import pause_swarm, resume_swarm
from swarmq.fleet.pool import StopReason
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import start_stage
from swarmq.kubernetes.ends import PodEnd, PodReason
from swarmq.models.branch import BranchRecord, Exit, Outcome
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmSpec
from swarmq.pod.payload import Payload, decode
from swarmq.pod.protocol import Encoder, ResultRecord
from swarmq.providers.registry import Models
from swarmq.settings import load_settings
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.testing import Script, ScriptedServer
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

SWARM = "swarm00001"
CALLS = 4
VANISHED = PodEnd(PodReason.VANISHED, "the pod is gone", None, True)
OUT_OF_MEMORY = PodEnd(PodReason.OOM_KILLED, "OOMKilled", 137, True)
SCRIPT = {
    "conversations": [
        {
            "match": "The works of two agents conflict",
            "turns": [
                {
                    "tool_calls": [
                        {"name": "bash", "arguments": {"command": "sed -i '/^|||/,/^===/d' a.txt; git status"}}
                    ]
                },
                {"text": "I think that is all."},
                {"tool_calls": [{"name": "bash", "arguments": {"command": "sed -i '/^[<>]/d' a.txt"}}]},
                {"text": "Both are kept."},
            ],
        },
        *(
            {
                "match": f"Put {word} into it",
                "turns": [
                    {"tool_calls": [{"name": "bash", "arguments": {"command": f"echo {word} > a.txt"}}]},
                    {"text": f"It says {word}."},
                ],
            }
            for word in ("left", "right")
        ),
        {
            "match": "Write the files",
            "turns": [
                *(
                    {"tool_calls": [{"name": "write", "arguments": {"file_path": f"{name}.txt", "content": name}}]}
                    for name in ("one", "two", "three")
                ),
                {"text": "All three are written."},
            ],
        },
        {"match": "Look at it", "turns": [{"text": "There is nothing.", "latency_ms": 60_000}]},
    ]
}
PLAN = Plan(subtasks=(Subtask(name="Writer", instruction="Write the files"),))
SIDES, RESOLVER = ("left", "right"), "right.r1"
CONFLICT = Plan(subtasks=tuple(Subtask(name=side, instruction=f"Put {side} into it") for side in SIDES))


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    """No script of the store is new here, so each test runs once."""
    gate = Gate(parse_address(valkey.url), retry_seconds=5, max_connections=8)
    yield Store(gate)
    await gate.aclose()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


urls: dict[int, str] = {}


@pytest.fixture
async def model() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(Script.model_validate(SCRIPT))
    urls[id(server)] = await server.start()
    yield server
    await server.aclose()


@pytest.fixture
async def runtime(store: Store, tmp_path: Path, model: ScriptedServer) -> AsyncIterator[Runtime]:
    settings = load_settings(
        state_dir=tmp_path / "state",
        lease_seconds=30,
        heartbeat_seconds=0.05,
        model="test:scripted",
        endpoints={"test": {"base_url": f"{urls[id(model)]}/v1", "prices": {"*": PRICE}}},
    )
    models = Models(settings)
    yield Runtime(settings, store, models, Sent(), "worker")  # type: ignore[arg-type]
    await models.aclose()


PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


@pytest.fixture
async def pods(runtime: Runtime, tmp_path: Path) -> AsyncIterator[LocalPods]:
    pods = LocalPods(tmp_path)
    instead(pods, runtime)
    yield pods
    await pods.aclose()


async def started(runtime: Runtime, repo: Path, plan: Plan = PLAN, **options: Any) -> None:
    """A swarm whose first stage is open."""
    spec = SwarmSpec(
        id=SWARM,
        task="write",
        options=SwarmOptions.parse({"placement": "pod", "cache": "bypass"} | options),
        repo=str(repo),
        base_commit=git(repo, "rev-parse", "HEAD"),
        plan=plan,
        created_at=time.time(),
    )
    await runtime.store.swarms.create(spec)
    await runtime.store.swarms.set_plan(SWARM, plan)
    await start_stage(runtime, SWARM)


async def run(runtime: Runtime, branch_id: str = "writer", job: Any = None) -> str:
    return str((await run_branch(runtime, SWARM, branch_id, job, None))["status"])


async def ended(runtime: Runtime, branch_id: str = "writer") -> Outcome:
    outcome = (await runtime.store.branches.load(SWARM, branch_id)).outcome
    assert outcome is not None
    return outcome


async def assert_whole(runtime: Runtime) -> Outcome:
    """All files in the commit, and a transcript in which every answer was recorded, counted and paid for once.

    A call whose answer was recorded and whose result was not is not run again: the model is told that it may have to.
    """
    outcome, store = await ended(runtime), runtime.store
    assert outcome.exit is Exit.COMPLETED, outcome.error
    results = [part for entry in await store.transcripts.load(SWARM, "writer") for part in entry.message.tool_results]
    written = [not result.is_error for result in results]
    assert set(outcome.files) >= set(compress(("one.txt", "two.txt", "three.txt"), written))
    assert sum(written) >= 2
    assert outcome.text == "All three are written."
    entries = await store.transcripts.load(SWARM, "writer")
    steps = [entry.step for entry in entries if entry.usage is not None]
    assert steps == [1, 2, 3, 4]
    counters = await store.swarms.counters(SWARM)
    assert (counters["steps"], outcome.steps) == (4, 4)
    assert counters["input_tokens"] == outcome.usage.input_tokens > 0
    assert (outcome.cost_usd or 0) > 0
    events = [event.type for event in await store.events.read(SWARM)]
    assert events.count(EventType.BRANCH_STEP) == 4
    return outcome


async def test_a_branch_runs_in_a_pod_and_its_work_is_merged(
    runtime: Runtime, pods: LocalPods, repo: Path, model: ScriptedServer
) -> None:
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert [pod.deleted for pod in pods.made] == [True]
    assert model.calls == CALLS
    await finish_stage(runtime, SWARM, 0)
    record = await runtime.store.swarms.load(SWARM)
    merge = record.results["writer"].merge
    assert merge is not None
    assert merge.status == "merged"
    assert isinstance(runtime.dispatch, Sent)
    assert "remove_pods" in [name for name, *_ in runtime.dispatch.take()]
    events = [event for event in await runtime.store.events.read(SWARM) if event.type is EventType.BRANCH_POD]
    assert [event.data for event in events] == [{"notice": "no node has room"}]


@pytest.mark.parametrize("after", [1, 4, 5])
async def test_a_pod_that_vanishes_is_replaced_and_goes_on(
    after: int, runtime: Runtime, pods: LocalPods, repo: Path, model: ScriptedServer
) -> None:
    pods.ends = [(VANISHED, after)]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 2
    assert model.calls <= CALLS + 1


async def test_a_branch_whose_pods_do_not_last_is_given_up(runtime: Runtime, pods: LocalPods, repo: Path) -> None:
    pods.ends = [(VANISHED, 2), (OUT_OF_MEMORY, 2), (VANISHED, 3)]
    await started(runtime, repo, max_deliveries=3)
    assert await run(runtime) == "failed"
    outcome = await ended(runtime)
    assert outcome.fault == "infrastructure"
    assert (outcome.error or "").startswith("Sub-agent pod disappeared")
    assert len(pods.made) == 3


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.01)


async def test_who_takes_over_adopts_the_pod(
    runtime: Runtime, pods: LocalPods, repo: Path, model: ScriptedServer
) -> None:
    """The first supervisor stops in the middle; the agent does not notice."""
    await started(runtime, repo)
    job = SimpleNamespace(stopping=StopReason.HAND_OVER, others_stay=False)
    first = asyncio.create_task(run_branch(runtime, SWARM, "writer", job, None))  # type: ignore[arg-type]
    await until(lambda: bool(pods.made) and pods.made[0].numbered > 3)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await runtime.store.branches.load(SWARM, "writer")).state == "queued"
    assert not pods.made[0].deleted
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 1
    assert model.calls == CALLS


async def test_lines_that_come_twice_are_recorded_once(runtime: Runtime, pods: LocalPods, repo: Path) -> None:
    pods.edits = [lambda lines: [line for line in lines for _ in range(2)]]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 1


@pytest.mark.parametrize("missing", [3, 5])
async def test_a_log_with_a_gap_makes_another_pod_go_on(
    missing: int, runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    def without(lines: list[str]) -> list[str]:
        numbered = [line for line in lines if not line.startswith("SWARMQ_PROBE")]
        return numbered[: missing - 1] + numbered[missing:]

    pods.edits = [without]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 2


async def test_the_result_of_another_branch_and_imitations_are_refused(
    runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    def forged(branch: str) -> ResultRecord:
        outcome = Outcome(exit=Exit.COMPLETED, text="mine")
        return ResultRecord(swarm=SWARM, branch=branch, entries=2, outcome=outcome)

    imitation = Encoder("e" * 32).lines(forged("writer")).strip()
    pods.edits = [lambda lines: [imitation, *lines]]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)


async def test_a_result_that_names_another_branch_fails_this_one(runtime: Runtime, pods: LocalPods, repo: Path) -> None:
    def other(lines: list[str]) -> list[str]:
        return [line.replace('"branch":"writer","entries"', '"branch":"reader","entries"') for line in lines]

    pods.edits = [other]
    await started(runtime, repo)
    assert await run(runtime) == "failed"
    assert "is one of branch reader" in ((await ended(runtime)).error or "")


async def test_a_cancelled_branch_loses_its_pod(runtime: Runtime, pods: LocalPods, repo: Path) -> None:
    plan = Plan(subtasks=(Subtask(name="Reader", instruction="Look at it", kind="read"),))
    await started(runtime, repo, plan)
    running = asyncio.create_task(run(runtime, "reader"))
    await until(lambda: bool(pods.made) and pods.made[0].numbered > 0)
    await cancel_branch(runtime.store, runtime.dispatch, SWARM, "reader", "not needed")
    assert await running == "cancelled"
    assert pods.made[0].deleted
    assert (await ended(runtime, "reader")).error == "not needed"


async def test_a_paused_swarm_has_no_pod_and_goes_on_in_another(
    runtime: Runtime, pods: LocalPods, repo: Path, model: ScriptedServer
) -> None:
    await started(runtime, repo)
    await pause_swarm(runtime.store, SWARM, "lunch")
    await resume_swarm(runtime.store, runtime.dispatch, SWARM)
    running = asyncio.create_task(run(runtime))
    await until(lambda: bool(pods.made) and pods.made[0].numbered > 2)
    await pause_swarm(runtime.store, SWARM, "tea")
    assert await running == "parked"
    assert pods.made[0].deleted
    await resume_swarm(runtime.store, runtime.dispatch, SWARM)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)


async def test_a_supervisor_that_does_not_know_the_price_starts_no_pod_with_a_cost_limit(
    runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    """Its settings may lack what those of the planner's worker had: the limit would hold back nothing."""
    endpoint = runtime.settings.endpoints["test"]
    runtime.settings.endpoints["test"] = endpoint.model_copy(update={"prices": {}})
    await started(runtime, repo, max_cost_usd=1)
    assert await run(runtime) == "failed"
    outcome = await ended(runtime)
    assert "the price of test:scripted is not known, so its cost cannot be limited" in (outcome.error or "")
    assert pods.made == []


async def test_a_budget_that_others_use_up_ends_the_pod_with_its_work_committed(
    runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    await started(runtime, repo, max_total_steps=2)
    assert await run(runtime) == "budget_exhausted"
    outcome = await ended(runtime)
    assert (outcome.limit, outcome.steps) == ("max_total_steps", 2)
    assert outcome.files == ("one.txt", "two.txt")
    assert outcome.commit is not None
    assert pods.made[0].deleted


@pytest.mark.parametrize(
    ("end", "exit_", "error"),
    [
        (PodEnd(PodReason.TIMED_OUT, "the agent did not end within 10 s", None, True), Exit.TIMED_OUT, "within 10 s"),
        (PodEnd(PodReason.IMAGE_UNPULLABLE, "no such image", None, False), Exit.FAILED, "no such image"),
        (PodEnd(PodReason.FAILED, "exit 5", 5, True), Exit.FAILED, "exit code 5"),
    ],
)
async def test_ends_without_a_result(
    end: PodEnd, exit_: Exit, error: str, runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    pods.ends = [(end, 0 if not end.started else 3)]
    await started(runtime, repo)
    assert await run(runtime) == exit_
    outcome = await ended(runtime)
    assert error in (outcome.error or "")
    assert len(pods.made) == 1


ENDED_WELL = PodEnd(PodReason.COMPLETED, "", 0, True)


def read_plan(name: str = "Reader") -> Plan:
    return Plan(subtasks=(Subtask(name=name, instruction="Write the files", kind="read"),))


async def test_the_log_of_an_agent_that_knows_no_protocol_is_its_result(
    runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    pods.ends = [(ENDED_WELL, 3)]
    pods.edits = [lambda lines: ["the last words"]]
    await started(runtime, repo, read_plan())
    assert await run(runtime, "reader") == "completed"
    assert (await ended(runtime, "reader")).text == "the last words"
    assert len(pods.made) == 1


@pytest.mark.parametrize("after", [0, 1, 4, 7])
async def test_a_log_whose_end_is_missing_makes_another_pod_go_on(
    after: int, runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    """The agent speaks the protocol, if only by a probe, and ends well: there was a result, which did not come."""
    pods.ends = [(ENDED_WELL, after)]
    pods.edits = [lambda lines: ["the last words", *lines]]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 2
    events = [event for event in await runtime.store.events.read(SWARM) if event.type is EventType.BRANCH_POD]
    assert "the log of the pod has a gap: its result is missing" in [event.data["notice"] for event in events]


async def test_an_adopted_pod_whose_log_is_lost_is_no_success(runtime: Runtime, pods: LocalPods, repo: Path) -> None:
    """What an earlier supervisor recorded says that there was a protocol."""
    pods.ends = [(VANISHED, 5), (ENDED_WELL, 3)]
    pods.edits = [list, lambda lines: []]
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    await assert_whole(runtime)
    assert len(pods.made) == 3


async def test_nothing_secret_is_in_records_and_events(
    runtime: Runtime, pods: LocalPods, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_MODEL_KEY", "sk-must-not-leak")
    endpoint = runtime.settings.endpoints["test"].model_copy(update={"api_key_env": "A_MODEL_KEY"})
    object.__setattr__(runtime, "settings", runtime.settings.model_copy(update={"endpoints": {"test": endpoint}}))
    await started(runtime, repo)
    assert await run(runtime) == "completed"
    payload: Payload = decode(pods.made[0].request.payload)
    assert payload.model.api_key == "sk-must-not-leak"
    record: BranchRecord = await runtime.store.branches.load(SWARM, "writer")
    told = str(await runtime.store.events.read(SWARM)) + str(record)
    told += str(await runtime.store.transcripts.load(SWARM, "writer"))
    for secret in ("sk-must-not-leak", payload.nonce):
        assert secret not in told
        assert secret not in "\n".join(pods.made[0].written).replace(f" {payload.nonce} ", " ")


async def conflicted(runtime: Runtime, repo: Path, **options: Any) -> None:
    """Both sides have been in pods, and the resolver of the second waits for its own."""
    await started(runtime, repo, CONFLICT, **options)
    for side in SIDES:
        assert await run(runtime, side) == "completed"
    await finish_stage(runtime, SWARM, 0)
    assert (await runtime.store.branches.load(SWARM, RESOLVER)).spec.resolves == "right"


@pytest.mark.parametrize("by_url", [False, True])
async def test_a_conflict_is_resolved_in_pods_of_which_one_vanishes(
    by_url: bool, runtime: Runtime, pods: LocalPods, repo: Path
) -> None:
    """The next one goes on at its checkpoint. An agent that says too early that it is done is told of the markers."""
    pods.ends = [None, None, (VANISHED, 5)]
    await conflicted(runtime, repo, **({"pod_repository_url": f"file://{repo}"} if by_url else {}))
    assert await run(runtime, RESOLVER) == "completed"
    assert [pod.request.branch_id for pod in pods.made] == ["left", "right", RESOLVER, RESOLVER]
    first, second = (decode(pod.request.payload) for pod in pods.made[2:])
    assert (first.checkpoint, first.subtask.specialty) == (None, "resolving merge conflicts")
    assert second.checkpoint is not None
    outcome, entries = await ended(runtime, RESOLVER), await runtime.store.transcripts.load(SWARM, RESOLVER)
    assert (outcome.text, outcome.steps, outcome.files) == ("Both are kept.", 4, ("a.txt",))
    said = [part.content for entry in entries for part in entry.message.tool_results]
    assert "both modified:   a.txt" in said[0]
    assert "a.txt: conflict markers are left" in "".join(entry.message.text for entry in entries)
    await finish_stage(runtime, SWARM, 0)
    result = (await runtime.store.swarms.load(SWARM)).results["right"]
    assert (result.success, result.resolved_by) == (True, RESOLVER)
    clone = runtime.settings.state_dir / "swarms" / SWARM / "repo.git"
    assert git(clone, "show", f"swarmq/{SWARM}:a.txt") == "left\nright"
    sides = [(await ended(runtime, side)).commit for side in SIDES]
    base, theirs = git(clone, "log", "-1", "--format=%P", str(outcome.commit)).split()
    assert theirs == sides[1]
    assert str(sides[0]) in git(clone, "log", "-1", "--format=%P", base)


async def test_a_resolver_that_leaves_markers_fails_whatever_its_pod_says(
    runtime: Runtime, pods: LocalPods, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_seen(self: SwarmRepository, worktree: Worktree, theirs: str) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(SwarmRepository, "unresolved", none_seen)  # which only the agent's side asks
    await conflicted(runtime, repo)
    assert await run(runtime, RESOLVER) == "failed"
    outcome = await ended(runtime, RESOLVER)
    assert (outcome.fault, outcome.error) == ("agent", "conflict markers are left in a.txt")
    await finish_stage(runtime, SWARM, 0)
    result = (await runtime.store.swarms.load(SWARM)).results["right"]
    assert not result.success
    assert "conflict markers are left in a.txt" in (result.error or "")
