"""A branch whose worker is told to stop: what runs may end and is recorded once, and nothing begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import Turn, call, says
from fleet_fakes import OneModel, Sent, git, repository

from swarmq.fleet.branch import run_branch
from swarmq.fleet.pool import StopReason
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import start_stage
from swarmq.models.branch import BranchRecord, BranchState, Exit
from swarmq.models.messages import Role, ToolResult
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmSpec
from swarmq.settings import load_settings
from swarmq.store.store import Store

SWARM, BRANCH = "swarm00001", "writer"
LOST = "may or may not have taken effect"
PLAN = Plan(subtasks=(Subtask(name="Writer", instruction="Write the file"),))


@dataclass
class Job:
    """The pool's part: what it asks the branch's coroutine, and how it cancels that."""

    others_stay: bool = False
    stopping: StopReason | None = None
    leave: Callable[[], bool] | None = None

    def hand_over(self, task: asyncio.Task[Any]) -> bool:
        """Whether it leaves by itself."""
        self.stopping = StopReason.HAND_OVER
        assert self.leave is not None
        if self.leave():
            return True
        task.cancel()
        return False


class Handed:
    """A swarm with one branch, whose first command waits until it is told to go on."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime, self.store, self.directory = runtime, runtime.store, directory
        self.job = Job()

    def says(self, *turns: Turn) -> None:
        assert isinstance(self.runtime.models, OneModel)
        self.runtime.models.model.turns += turns

    def waits(self, *more: Any) -> Turn:
        """An answer with that command; with other calls behind it."""
        command = "echo ran >> $D/ledger; until test -e $D/go; do sleep 0.01; done; echo one > one.txt"
        return says("", call("bash", "slow", command=command), *more)

    async def begin(self) -> None:
        repo = repository(self.directory / "repo")
        spec = SwarmSpec(
            id=SWARM,
            task="write",
            options=SwarmOptions.parse({"cache": "bypass", "env": {"D": str(self.directory)}}),
            repo=str(repo),
            base_commit=git(repo, "rev-parse", "HEAD"),
            created_at=time.time(),
            celery_task_id="task",
        )
        await self.store.swarms.create(spec)
        await self.store.swarms.set_plan(SWARM, PLAN)
        await start_stage(self.runtime, SWARM)
        self.sent()

    def run(self, job: Job | None = None) -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(run_branch(self.runtime, SWARM, BRANCH, job, None))  # type: ignore[arg-type]

    async def in_its_command(self) -> asyncio.Task[dict[str, Any]]:
        running = self.run(self.job)
        await seen(lambda: (self.directory / "ledger").exists())
        return running

    def go_on(self) -> None:
        (self.directory / "go").touch()

    def ran(self) -> int:
        return len((self.directory / "ledger").read_text().split())

    def sent(self) -> list[tuple[Any, ...]]:
        assert isinstance(self.runtime.dispatch, Sent)
        return self.runtime.dispatch.take()

    async def branch(self) -> BranchRecord:
        return await self.store.branches.load(SWARM, BRANCH)

    async def results(self) -> list[ToolResult]:
        entries = await self.store.transcripts.load(SWARM, BRANCH)
        return [result for entry in entries for result in entry.message.tool_results]


@pytest.fixture
async def handed(store: Store, tmp_path: Path) -> Handed:
    settings = load_settings(state_dir=tmp_path / "state", lease_seconds=30, heartbeat_seconds=0.05, model="test:x")
    made = Handed(Runtime(settings, store, OneModel(), Sent(), "worker"), tmp_path)  # type: ignore[arg-type]
    await made.begin()
    return made


async def seen(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.005)


async def not_acknowledged(task: asyncio.Task[Any]) -> None:
    """The pool neither stores nor acknowledges what is cancelled."""
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def finished(handed: Handed) -> BranchRecord:
    """By the next holder."""
    handed.says(says("It is written."))
    assert (await asyncio.wait_for(handed.run(), 30))["status"] == "completed"
    return await handed.branch()


async def test_a_tool_call_that_runs_ends_and_the_next_holder_goes_on_behind_it(handed: Handed) -> None:
    handed.says(handed.waits(call("write", "next", file_path="two.txt", content="two\n")))
    running = await handed.in_its_command()
    assert handed.job.hand_over(running)
    handed.go_on()
    await not_acknowledged(running)
    branch = await handed.branch()
    assert (branch.state, branch.deliveries) == (BranchState.QUEUED, 0)
    ran, not_run = await handed.results()
    assert (ran.call_id, ran.is_error, not_run.call_id, not_run.is_error) == ("slow", False, "next", True)
    assert "Not run" in not_run.content
    assert handed.sent() == []  # the worker's end brings its own message back
    branch = await finished(handed)
    assert branch.outcome is not None
    assert (branch.outcome.files, branch.outcome.steps, branch.token) == (("one.txt",), 2, 2)
    assert handed.ran() == 1
    assert not [result for result in await handed.results() if LOST in result.content]
    assert (await handed.store.swarms.counters(SWARM))["reserved_tokens"] == 0


async def test_a_tool_call_that_is_cut_off_is_marked(handed: Handed) -> None:
    handed.says(handed.waits())
    running = await handed.in_its_command()
    assert handed.job.hand_over(running)
    running.cancel()  # its time is over
    await not_acknowledged(running)
    assert await handed.results() == []
    handed.says(says("", call("write", "next", file_path="two.txt", content="two\n")))
    branch = await finished(handed)
    assert branch.outcome is not None
    assert branch.outcome.files == ("two.txt",)
    slow, _ = await handed.results()
    assert LOST in slow.content
    assert handed.ran() == 1


async def test_an_answer_that_comes_in_time_is_recorded_with_what_its_tools_did(handed: Handed) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        asked.set()
        await answered.wait()
        return says("", call("write", "first", file_path="one.txt", content="one\n"))

    handed.says(slow)
    running = handed.run(handed.job)
    await asyncio.wait_for(asked.wait(), 30)
    assert handed.job.hand_over(running)
    answered.set()
    await not_acknowledged(running)
    branch = await handed.branch()
    assert (branch.state, branch.deliveries) == (BranchState.QUEUED, 0)
    assert [(result.call_id, result.is_error) for result in await handed.results()] == [("first", False)]
    handed.says(says("", call("write", "again", file_path="one.txt", content="two\n")))
    branch = await finished(handed)
    assert branch.outcome is not None
    assert (branch.outcome.files, branch.outcome.steps, branch.token) == (("one.txt",), 3, 2)
    assert not [result for result in await handed.results() if result.is_error], (
        "it knows the file that it wrote before"
    )
    assert isinstance(handed.runtime.models, OneModel)
    assert handed.runtime.models.model.asked == 3


async def test_a_model_call_that_takes_too_long_is_aborted_and_the_message_sent_where_the_worker_stays(
    handed: Handed,
) -> None:
    asked = asyncio.Event()

    async def endless() -> Any:
        asked.set()
        await asyncio.Event().wait()

    handed.says(endless)
    handed.job.others_stay = True
    running = handed.run(handed.job)
    await asyncio.wait_for(asked.wait(), 30)
    assert handed.job.hand_over(running)
    running.cancel()
    await not_acknowledged(running)
    assert (await handed.branch()).state is BranchState.QUEUED
    assert handed.sent() == [("branches", SWARM, [BRANCH])]


@pytest.mark.parametrize("end", ["cancelled", "lost"])
async def test_who_is_waited_for_still_hears_from_its_record(handed: Handed, end: str) -> None:
    """Cancelled meanwhile it ends as such, taken over meanwhile it writes nothing: neither waits for the command."""
    handed.says(handed.waits())
    running = await handed.in_its_command()
    assert handed.job.hand_over(running)
    if end == "cancelled":
        await handed.store.branches.cancel(SWARM, BRANCH, "enough")
    else:
        await taken_over(handed)
    await not_acknowledged(running)
    branch = await handed.branch()
    if end == "cancelled":
        assert branch.outcome is not None
        assert (branch.outcome.exit, branch.outcome.error) == (Exit.CANCELLED, "enough")
    else:
        assert (branch.state, branch.token) == (BranchState.RUNNING, 2)
    entries = await handed.store.transcripts.load(SWARM, BRANCH)
    assert entries[-1].message.role is Role.ASSISTANT


async def taken_over(handed: Handed) -> None:
    """By another worker, between two heartbeats of the holder."""
    branches = handed.store.branches
    async with asyncio.timeout(30):
        while (await branches.claim(SWARM, BRANCH, "another", 30)).status != "claimed":
            await branches.lapse(SWARM, BRANCH, 1)
