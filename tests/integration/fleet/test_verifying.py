"""Verify in a branch's worktree and on merged trees: what is recorded, what is told, and what a stop leaves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import FakeModel, StatelessModel, call, says
from fleet_fakes import OneModel, Sent, git, repository

from swarmq.errors import LeaseLost
from swarmq.fleet.branch import run_branch
from swarmq.fleet.ending import cancel_swarm
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.pausing import pause_swarm, resume_swarm
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import repository_of, start_stage
from swarmq.fleet.verifying import verify_commit
from swarmq.models.branch import BranchRecord, BranchState, Exit
from swarmq.models.events import Event, EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmRecord, SwarmSpec, SwarmState
from swarmq.models.verify import VerifyReport
from swarmq.settings import load_settings
from swarmq.store.store import Store
from swarmq.workspace import listing
from swarmq.workspace.processes import find_processes
from swarmq.workspace.swarm_repository import SwarmRepository

SWARM = secrets.token_hex(5)
"""Of this process alone: what a branch started is found by it on the whole machine."""
ALPHA = Subtask(name="Alpha", instruction="Write the file")
WRITES = says("", call("write", "w", file_path="one.txt", content="one\n"))
WRITES_MORE = says("", call("write", "m", file_path="two.txt", content="two\n"))
DONE = says("It is written.")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


@pytest.fixture
def models() -> OneModel:
    return OneModel(WRITES, DONE)


@pytest.fixture
def runtime(store: Store, models: OneModel, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path / "state", lease_seconds=30, heartbeat_seconds=0.05, model="test:x")
    return Runtime(settings, store, models, Sent(), "worker")  # type: ignore[arg-type]


async def begin(runtime: Runtime, repo: Path, *subtasks: Subtask, **options: Any) -> SwarmRecord:
    """A swarm whose first stage is open."""
    spec = SwarmSpec(
        id=SWARM,
        task="write",
        options=SwarmOptions.parse({"cache": "bypass"} | options),
        repo=str(repo),
        base_commit=git(repo, "rev-parse", "HEAD"),
        created_at=time.time(),
        celery_task_id="task",
    )
    await runtime.store.swarms.create(spec)
    await runtime.store.swarms.set_plan(SWARM, Plan(subtasks=subtasks or (ALPHA,)))
    await start_stage(runtime, SWARM)
    return await runtime.store.swarms.load(SWARM)


async def run(runtime: Runtime, branch_id: str = "alpha") -> BranchRecord:
    await run_branch(runtime, SWARM, branch_id, None, None)
    return await runtime.store.branches.load(SWARM, branch_id)


async def end(runtime: Runtime) -> SwarmRecord:
    await finish_stage(runtime, SWARM, 0)
    await finish_swarm(runtime, SWARM)
    return await runtime.store.swarms.load(SWARM)


async def told(runtime: Runtime, *types: EventType) -> list[Event]:
    return [event for event in await runtime.store.events.read(SWARM) if event.type in types]


VERIFY_EVENTS = (EventType.VERIFY_STARTED, EventType.VERIFY_PASSED, EventType.VERIFY_FAILED)


async def until(look: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            found = look()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


def marked(branch: str) -> list[Any]:
    return find_processes(f"SWARMQ_BRANCH={SWARM}/{branch}")


async def test_a_failure_is_told_and_the_work_that_passes_then_is_merged(
    runtime: Runtime, models: OneModel, repo: Path
) -> None:
    models.model = FakeModel(WRITES, DONE, WRITES_MORE, says("Both."))
    await begin(runtime, repo, verify="echo scratch > scratch.txt; cat two.txt")
    branch = await run(runtime)
    assert branch.outcome is not None
    assert (branch.outcome.exit, branch.outcome.steps) == (Exit.COMPLETED, 4)
    assert branch.outcome.files == ("one.txt", "two.txt")
    report = branch.outcome.verify
    assert report is not None
    assert (report.passed, report.changed, report.output) == (True, ("scratch.txt",), "two\n")
    entries = await runtime.store.transcripts.load(SWARM, "alpha")
    (sent_back,) = [entry for entry in entries if entry.verify is not None]
    assert "No such file" in sent_back.message.text
    events = await told(runtime, *VERIFY_EVENTS)
    assert [event.type.value for event in events] == [
        "verify.started",
        "verify.failed",
        "verify.started",
        "verify.passed",
    ]
    assert (events[1].data["round"], events[1].branch) == (1, "alpha")
    record = await end(runtime)
    assert record.state is SwarmState.SUCCEEDED
    assert record.results["alpha"].verify == report
    assert git(repo, "ls-tree", "--name-only", f"swarmq/{SWARM}").split() == ["a.txt", "one.txt", "two.txt"]


async def test_work_that_never_passes_fails_and_names_the_command(
    runtime: Runtime, models: OneModel, repo: Path
) -> None:
    models.model = FakeModel(WRITES, DONE, DONE)
    await begin(runtime, repo, verify="echo because >&2; exit 3", verify_rounds=1)
    branch = await run(runtime)
    outcome = branch.outcome
    assert outcome is not None
    assert (outcome.exit, outcome.fault, outcome.limit) == (Exit.FAILED, "agent", "verify_rounds")
    assert "'echo because >&2; exit 3' ended with exit code 3" in (outcome.error or "")
    assert outcome.verify is not None
    assert outcome.worktree is not None
    record = await end(runtime)
    assert record.result is not None
    assert "because" in record.result.report


async def test_a_branch_without_changes_fails_for_that_and_is_not_verified(
    runtime: Runtime, models: OneModel, repo: Path
) -> None:
    models.model = FakeModel(DONE)
    await begin(runtime, repo, verify="true")
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.verify) == (Exit.FAILED, None)
    assert not await told(runtime, *VERIFY_EVENTS)


SUBMODULE = "git init -q lib; printf '[submodule]\n path = lib\n' > .gitmodules"


@pytest.mark.parametrize("verify", [(), ("true",)])
async def test_files_that_cannot_be_committed_are_told(
    runtime: Runtime, models: OneModel, repo: Path, verify: tuple[str, ...]
) -> None:
    adds = says("", call("bash", "b", command=f"{SUBMODULE}; truncate -s 101M dump"))
    models.model = FakeModel(WRITES, adds, DONE, says("", call("bash", "r", command="rm -r lib .git?* dump")), DONE)
    await begin(runtime, repo, verify=verify)
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.steps, outcome.files) == (Exit.COMPLETED, 5, ("one.txt",))
    assert (outcome.verify is not None and outcome.verify.passed) == bool(verify)
    entries = await runtime.store.transcripts.load(SWARM, "alpha")
    (sent_back,) = [entry for entry in entries if entry.verify is not None]
    assert "'git commit' ended with exit code 1" in sent_back.message.text
    assert "dump is larger than 100 MB (101 MB)\nlib is a new submodule" in sent_back.message.text


async def test_files_that_cannot_be_committed_are_the_agents_failure(
    runtime: Runtime, models: OneModel, repo: Path
) -> None:
    models.model = FakeModel(says("", call("bash", "b", command=SUBMODULE)), DONE, DONE)
    await begin(runtime, repo, verify_rounds=1)
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.fault, outcome.limit) == (Exit.FAILED, "agent", "verify_rounds")
    assert outcome.verify is not None
    assert outcome.verify.output == "lib is a new submodule, and a swarm cannot add one"
    record = await end(runtime)
    assert record.result is not None
    assert "lib is a new submodule" in record.result.report


async def test_a_pipe_that_git_would_wait_at_is_the_agents_failure(
    runtime: Runtime, models: OneModel, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LISTING_SECONDS", 0.5)
    pipe = "mkdir d; mkfifo d/.gitignore"
    models.model = FakeModel(WRITES, says("", call("bash", "b", command=pipe)), DONE)
    await begin(runtime, repo)
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.fault) == (Exit.FAILED, "agent")
    assert outcome.error is not None
    assert "git reads d/.gitignore" in outcome.error
    assert outcome.checkpoint is not None, "what was saved before stays"


async def test_files_that_come_behind_verify_are_the_agents_failure_too(
    runtime: Runtime, models: OneModel, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what a process in the background writes then."""

    async def none_yet(*_: Any) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(SwarmRepository, "refused_files", none_yet)
    models.model = FakeModel(WRITES, says("", call("bash", "b", command=SUBMODULE)), DONE)
    await begin(runtime, repo)
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.fault) == (Exit.FAILED, "agent")
    assert outcome.error == "cannot be committed: lib is a new submodule, and a swarm cannot add one"
    assert outcome.worktree is not None


async def test_a_subtasks_own_commands_stand_in_for_the_swarms(runtime: Runtime, models: OneModel, repo: Path) -> None:
    own = ALPHA.model_copy(update={"verify": ("cat one.txt",)})
    checks = Subtask(name="Checks", instruction="Check", kind="verify")
    await begin(runtime, repo, own, checks, verify="false")
    outcome = (await run(runtime)).outcome
    assert outcome is not None
    assert outcome.verify is not None
    assert outcome.verify.command == "cat one.txt"
    models.model = FakeModel(DONE)
    outcome = (await run(runtime, "checks")).outcome
    assert outcome is not None
    assert (outcome.exit, outcome.verify) == (Exit.COMPLETED, None)


async def test_no_more_run_verify_at_once_than_the_worker_has_slots_for(
    runtime: Runtime, models: OneModel, repo: Path, tmp_path: Path
) -> None:
    alone = f"mkdir {tmp_path}/alone && sleep 0.1 && rmdir {tmp_path}/alone"
    runtime = replace(runtime, settings=runtime.settings.model_copy(update={"verify_concurrency": 1}))
    models.model = StatelessModel(WRITES, DONE)
    names = ("alpha", "beta", "gamma", "delta")
    subtasks = [Subtask(name=name.title(), instruction="Write the file") for name in names]
    await begin(runtime, repo, *subtasks, verify=alone)
    branches = await asyncio.gather(*(run(runtime, name) for name in names))
    exits = {branch.spec.id: branch.outcome.exit for branch in branches if branch.outcome is not None}
    assert exits == dict.fromkeys(names, Exit.COMPLETED)


SLOW = "echo scratch > scratch.txt; (sleep 77.5 & sleep 78.5)"


async def running_verify(runtime: Runtime, repo: Path) -> asyncio.Task[Any]:
    """A branch in the middle of its verifying, which has changed a file."""
    await begin(runtime, repo, verify=SLOW)
    task = asyncio.create_task(run_branch(runtime, SWARM, "alpha", None, None))

    async def seen() -> bool:
        branch = await runtime.store.branches.load(SWARM, "alpha")
        at_it = branch.observation is not None and branch.observation.doing == "verifying"
        return at_it and len(marked("alpha-1")) >= 2

    await until(seen)
    return task


async def files_of_checkpoint(runtime: Runtime, repo: Path, branch: BranchRecord) -> list[str]:
    clone = runtime.settings.state_dir / "swarms" / SWARM / "repo.git"
    return git(clone, "ls-tree", "--name-only", branch.checkpoint or "").split()


async def test_a_pause_stops_verify_and_resuming_runs_it_again(
    runtime: Runtime, models: OneModel, repo: Path, tmp_path: Path
) -> None:
    task = await running_verify(runtime, repo)
    assert await pause_swarm(runtime.store, SWARM, "lunch")
    assert (await task)["status"] == "parked"
    assert not marked("alpha-1")
    branch = await runtime.store.branches.load(SWARM, "alpha")
    assert branch.state is BranchState.QUEUED
    assert await files_of_checkpoint(runtime, repo, branch) == ["a.txt", "one.txt"]

    await resume_swarm(runtime.store, runtime.dispatch, SWARM)
    again = asyncio.create_task(run_branch(runtime, SWARM, "alpha", None, None))
    await until(lambda: len(marked("alpha-2")) >= 2)
    await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough")
    await again
    assert not marked("alpha-2")
    branch = await runtime.store.branches.load(SWARM, "alpha")
    assert branch.outcome is not None
    assert (branch.outcome.exit, branch.outcome.steps) == (Exit.CANCELLED, 2)
    assert await files_of_checkpoint(runtime, repo, branch) == ["a.txt", "one.txt"]
    assert models.model.asked == 2


async def merged(
    runtime: Runtime, repo: Path, *subtasks: Subtask, **options: Any
) -> tuple[SwarmRecord, SwarmRepository, str]:
    """A swarm and a commit of it that nobody has verified."""
    record = await begin(runtime, repo, *subtasks, **options)
    repository = repository_of(runtime, record)
    assert repository is not None
    worktree = await repository.open_worktree("beta", 1, record.spec.base_commit or "")
    (worktree.path / "b.txt").write_text("b\n")
    made = await repository.commit(worktree, message="b", trailers={})
    assert made is not None
    return record, repository, made.commit


def worktrees(runtime: Runtime) -> list[str]:
    root = runtime.settings.state_dir / "swarms" / SWARM / "worktrees"
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("beta"))


async def test_a_merged_commit_is_verified_in_a_clean_worktree_once(
    runtime: Runtime, repo: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    own = ALPHA.model_copy(update={"verify": (f"echo own >> {ledger}; echo x > b.txt", "true")})
    record, repository, commit = await merged(
        runtime, repo, own, setup=f"echo setup >> {ledger}", verify=(f"cat b.txt; echo swarm >> {ledger}", "true")
    )
    report = await verify_commit(runtime, record, own, repository, commit, branch_id="alpha")
    assert report is not None
    assert (report.passed, report.commit, report.changed) == (True, commit, ("b.txt",))
    assert ledger.read_text().split() == ["setup", "swarm", "own"], "each once, the swarm's first"
    assert worktrees(runtime) == []
    assert sorted(path.name for path in (runtime.settings.state_dir / "swarms" / SWARM / "indexes").iterdir()) == [
        "beta-1"
    ]
    again = await verify_commit(runtime, record, own, repository, commit)
    assert again == report
    assert ledger.read_text().split() == ["setup", "swarm", "own"]
    events = await told(runtime, *VERIFY_EVENTS)
    assert [(event.type.value, event.branch, event.data["commit"]) for event in events] == [
        ("verify.started", "alpha", commit),
        ("verify.passed", "alpha", commit),
    ]


async def test_a_failure_on_the_merged_tree_is_asked_for_again(runtime: Runtime, repo: Path, tmp_path: Path) -> None:
    record, repository, commit = await merged(runtime, repo, verify=f"test -e {tmp_path}/mended || exit 7")
    report = await verify_commit(runtime, record, ALPHA, repository, commit)
    assert report is not None
    assert (report.passed, report.exit_code) == (False, 7)
    (tmp_path / "mended").touch()
    report = await verify_commit(runtime, record, ALPHA, repository, commit)
    assert report is not None
    assert report.passed


async def test_a_setup_that_fails_on_the_merged_tree_does_not_pass(runtime: Runtime, repo: Path) -> None:
    record, repository, commit = await merged(runtime, repo, setup="echo broken lock; exit 5", verify="true")
    report = await verify_commit(runtime, record, ALPHA, repository, commit)
    assert report is not None
    assert not report.passed
    assert "broken lock" in report.output
    assert worktrees(runtime) == []


async def test_nothing_to_verify(runtime: Runtime, repo: Path) -> None:
    record, repository, commit = await merged(runtime, repo)
    assert await verify_commit(runtime, record, ALPHA, repository, commit) is None


async def a_run(
    runtime: Runtime, record: SwarmRecord, repository: SwarmRepository, commit: str
) -> asyncio.Task[VerifyReport | None]:
    task = asyncio.create_task(verify_commit(runtime, record, ALPHA, repository, commit))
    await until(lambda: bool(verifying()))
    return task


def verifying() -> list[str]:
    """Runs of verify on merged trees that have processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {value.decode() for value in variables if value.startswith(f"SWARMQ_BRANCH={SWARM}/verify@".encode())}
    return sorted(found)


async def test_cancelling_the_swarm_ends_verify_of_a_merged_tree(runtime: Runtime, repo: Path) -> None:
    record, repository, commit = await merged(runtime, repo, verify=SLOW)
    task = await a_run(runtime, record, repository, commit)
    await cancel_swarm(runtime.store, runtime.dispatch, SWARM, "enough")
    report = await task
    assert report is not None
    assert (report.passed, report.stopped) == (False, "the swarm was cancelled: enough")
    assert not verifying()
    assert worktrees(runtime) == []


async def test_a_worker_that_stops_leaves_neither_process_nor_worktree(runtime: Runtime, repo: Path) -> None:
    record, repository, commit = await merged(runtime, repo, verify=SLOW)
    task = await a_run(runtime, record, repository, commit)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not verifying()
    assert worktrees(runtime) == []


async def test_who_comes_later_ends_an_earlier_run_whose_failure_counts_for_nothing(
    runtime: Runtime, repo: Path, tmp_path: Path
) -> None:
    command = f"test -e {tmp_path}/quick || sleep 79.5"
    record, repository, commit = await merged(runtime, repo, verify=command)
    early = await a_run(runtime, record, repository, commit)
    (tmp_path / "quick").touch()
    report = await verify_commit(runtime, record, ALPHA, repository, commit)
    assert report is not None
    assert report.passed
    with pytest.raises(LeaseLost):
        await early
    assert not verifying()
    assert worktrees(runtime) == []


async def test_what_a_killed_worker_left_goes_with_the_swarm(runtime: Runtime, repo: Path) -> None:
    record, repository, _ = await merged(runtime, repo, verify="true")
    left = await repository.open_detached("0123456789ab", record.spec.base_commit or "")
    await run(runtime)
    record = await end(runtime)
    assert record.state is SwarmState.SUCCEEDED
    assert not left.path.exists()


async def test_what_an_agent_leaves_running_is_ended_before_its_files_are_committed(
    runtime: Runtime, models: OneModel, repo: Path, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    leaves = (
        f"(trap 'echo late > late.txt; exit' TERM; touch {ready}; while :; do sleep 0.01; done) > /dev/null 2>&1 & "
        f"until [ -e {ready} ]; do sleep 0.01; done"
    )
    models.model = FakeModel(WRITES, says("", call("bash", "b", command=leaves)), DONE)
    await begin(runtime, repo)
    branch = await run(runtime)
    assert branch.outcome is not None
    assert branch.outcome.files == ("late.txt", "one.txt"), "what was written last is in the commit, not behind it"
    assert not marked("alpha-1")
