"""Races, conflicts and early starts: whole swarms in this process, with a real store and real git, without models.

What the tasks publish is kept and carried out by ``Pump``, in any order that a test likes, doubled or lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fleet_fakes import git, repository
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository_snapshot import changed, snapshot

from swarmq.errors import LeaseLost, UsageError
from swarmq.fleet import settling
from swarmq.fleet.claims import MOST_FAILURES
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.gc import collect_garbage
from swarmq.fleet.racing import stop_losers
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import repository_of, start_stage
from swarmq.fleet.standing import plan_of
from swarmq.models.branch import BranchRecord, BranchState, Exit, Outcome
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskStatus, SwarmRecord, SwarmSpec, SwarmState
from swarmq.models.verify import VerifyReport
from swarmq.providers.registry import Models
from swarmq.settings import load_settings
from swarmq.store import keys
from swarmq.store.store import Store
from swarmq.workspace.publishing import fast_forward

SWARM = "racing0001"
PASSED = VerifyReport(passed=True, command="true", exit_code=0)


class Pump:
    """A dispatcher that keeps what would be published."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []
        self.terminated: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def send(*args: Any, **_: Any) -> None:
            if name == "terminate":
                self.terminated += args[0]
            elif name in ("branches", "stage"):
                self.messages += [("branch", id_) for id_ in args[-1]]
            else:
                self.messages.append((name, *args))

        return send


class World:
    """One swarm, and what a test lets its branches do."""

    def __init__(self, runtime: Runtime, pump: Pump) -> None:
        self.runtime, self.store, self.pump = runtime, runtime.store, pump
        self.work: dict[str, dict[str, str]] = {}
        self.claimed: set[str] = set()

    async def start(self, plan: Plan, repo: Path | None, **options: Any) -> None:
        spec = SwarmSpec(
            id=SWARM,
            task="work",
            options=SwarmOptions.parse(options),
            repo=None if repo is None else str(repo),
            base_commit=None if repo is None else git(repo, "rev-parse", "HEAD"),
            created_at=time.time(),
            celery_task_id=SWARM,
        )
        await self.store.swarms.create(spec)
        await self.store.swarms.set_plan(SWARM, plan)
        await start_stage(self.runtime, SWARM)

    async def record(self) -> SwarmRecord:
        return await self.store.swarms.load(SWARM)

    async def branch(self, branch_id: str) -> BranchRecord:
        return await self.store.branches.load(SWARM, branch_id)

    async def carry_out(self, message: tuple[Any, ...]) -> None:
        """One message that moves the swarm on; branches wait for ``end``."""
        match message[0]:
            case "start_stage":
                await start_stage(self.runtime, SWARM)
            case "finish_stage":
                await finish_stage(self.runtime, SWARM, message[2])
            case "finish_swarm":
                await finish_swarm(self.runtime, SWARM)
            case "branch":
                claim = await self.store.branches.claim(SWARM, message[1], "worker", 60)
                if claim.status == "claimed":
                    self.claimed.add(message[1])
                if claim.advance and claim.record is not None:
                    self.pump.messages.append(("finish_stage", SWARM, claim.record.spec.stage))

    async def settle(self) -> None:
        """Everything that is published, until nothing is."""
        while self.pump.messages:
            await self.carry_out(self.pump.messages.pop(0))

    async def end(self, branch_id: str, exit_: Exit = Exit.COMPLETED, *, verified: bool = False) -> None:
        """The branch's agent ends, having written the files of ``work``."""
        branch = await self.branch(branch_id)
        outcome = Outcome(
            exit=exit_, text=f"{branch_id} is done", steps=1, verify=PASSED if verified else None, error=None
        )
        if exit_ is Exit.COMPLETED and branch_id in self.work:
            outcome = outcome.model_copy(update={"commit": await self._commit(branch)})
        wins = verified and branch.spec.candidate > 0
        ended = await self.store.branches.finish(SWARM, branch_id, branch.token, outcome, wins=wins)
        self.claimed.discard(branch_id)
        if ended.won:
            await stop_losers(self.store, self.pump, SWARM, branch.spec.subtask_id, branch_id, "verify")  # type: ignore[arg-type]
        self.pump.messages += [("branch", id_) for id_ in ended.publish]
        if ended.advance:
            self.pump.messages.append(("finish_stage", SWARM, branch.spec.stage))

    async def _commit(self, branch: BranchRecord) -> str:
        repository = repository_of(self.runtime, await self.record())
        spec = branch.spec
        assert repository is not None
        assert spec.base_commit is not None
        if spec.theirs is None:
            worktree = await repository.open_worktree(spec.id, branch.token, spec.base_commit)
        else:
            worktree = await repository.open_resolver(spec.id, branch.token, spec.base_commit, spec.theirs)
        for name, text in self.work[spec.id].items():
            (worktree.path / name).write_text(text)
        made = await repository.commit(worktree, message=spec.id, trailers={}, theirs=spec.theirs)
        assert made is not None
        await repository.remove_worktree(worktree)
        return made.commit


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", "one\ntwo\nthree\n")


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    loaded = load_settings(state_dir=tmp_path / "state", queue_patience_seconds=0.05, model="test:x")
    pump = Pump()
    return World(Runtime(loaded, store, Models(loaded), pump, "worker"), pump)  # type: ignore[arg-type]


def one(name: str, *needs: str, **fields: Any) -> Subtask:
    return Subtask(name=name, instruction=f"Do {name}", dependencies=needs, **fields)


def plan(*subtasks: Subtask) -> Plan:
    return Plan(subtasks=subtasks)


async def test_the_first_that_passes_verify_wins_and_the_others_are_stopped(world: World, repo: Path) -> None:
    await world.start(plan(one("s", candidates=4)), repo, max_subagents=3)
    await world.settle()
    assert world.claimed == {"s", "s.2", "s.3"}, "the fourth waits for a slot"
    world.work["s.2"] = {"b.txt": "two\n"}
    await world.end("s.2", verified=True)
    assert sorted(world.pump.terminated) == [f"{SWARM}.s", f"{SWARM}.s.3"]
    waiting = await world.branch("s.4")
    assert waiting.state is BranchState.DONE, "one that had not started is ended by its record alone"
    assert waiting.cancel_reason == "Cancelled by collapse controller: s.2 won the race"
    await world.settle()
    assert (await world.record()).results == {}, "the losers still clean up"
    for loser in ("s", "s.3"):
        await world.end(loser, Exit.CANCELLED)
    await world.settle()
    record = await world.record()
    assert record.state is SwarmState.SUCCEEDED
    result = record.results["s"]
    assert (result.branch_id, result.text, result.status) == ("s.2", "s.2 is done", SubtaskStatus.SUCCEEDED)
    assert [(each.branch_id, each.promoted, each.exit) for each in result.candidates] == [
        ("s", False, Exit.CANCELLED),
        ("s.2", True, Exit.COMPLETED),
        ("s.3", False, Exit.CANCELLED),
        ("s.4", False, Exit.CANCELLED),
    ]
    assert git(repo, "show", f"swarmq/{SWARM}:b.txt") == "two"
    promoted = [e for e in await world.store.events.read(SWARM) if e.type is EventType.PROMOTED]
    assert [(event.branch, event.data) for event in promoted] == [("s.2", {"by": "verify"})]


async def test_the_files_of_losers_are_kept_to_look_at(world: World, repo: Path, tmp_path: Path) -> None:
    await world.start(plan(one("s", candidates=2)), repo)
    await world.settle()
    world.work["s"] = {"b.txt": "one\n"}
    await world.end("s", verified=True)
    repository = repository_of(world.runtime, await world.record())
    loser = await world.branch("s.2")
    assert repository is not None
    worktree = await repository.open_worktree("s.2", loser.token, loser.spec.base_commit or "")
    outcome = Outcome(exit=Exit.CANCELLED, error=loser.cancel_reason, worktree=str(worktree.path))
    ended = await world.store.branches.finish(SWARM, "s.2", loser.token, outcome)
    world.pump.messages.append(("finish_stage", SWARM, 0))
    await world.settle()
    assert ended.advance
    assert (await world.record()).state is SwarmState.SUCCEEDED
    assert worktree.path.is_dir()
    assert await collect_garbage(world.store, world.runtime.settings) == []
    other_path = worktree.path.parents[4] / "other path"
    other_path.symlink_to(world.runtime.settings.state_dir)
    elsewhere = world.runtime.settings.model_copy(update={"state_dir": other_path})
    assert await collect_garbage(world.store, elsewhere, dry_run=True) == []
    await world.store.gate.call("HINCRBYFLOAT", keys.SWARM(SWARM), "finished_at", -80 * 3600)
    removed = await collect_garbage(world.store, world.runtime.settings)
    assert removed == [f"{worktree.path}: kept for 72 hours"]
    assert not worktree.path.exists()


async def test_losers_that_nobody_stopped_are_stopped_later(world: World, repo: Path) -> None:
    """The winner's worker died right behind the record of its end."""
    await world.start(plan(one("s", candidates=3)), repo)
    await world.settle()
    world.work["s.2"] = {"b.txt": "two\n"}
    winner = await world.branch("s.2")
    outcome = Outcome(exit=Exit.COMPLETED, verify=PASSED, commit=await world._commit(winner))
    assert (await world.store.branches.finish(SWARM, "s.2", winner.token, outcome, wins=True)).won
    assert world.pump.terminated == []
    await reconcile(world.runtime)
    assert sorted(world.pump.terminated) == [f"{SWARM}.s", f"{SWARM}.s.3"]
    assert (await world.branch("s")).cancel_reason == "Cancelled by collapse controller: s.2 won the race"


async def test_losers_whose_worker_died_with_the_winners_are_ended(world: World, repo: Path) -> None:
    """The revoke of their tasks makes workers drop any message for them: their records have to be ended."""
    await world.start(plan(one("s", candidates=2)), repo)
    await world.settle()
    world.work["s"] = {"b.txt": "one\n"}
    winner, token = await world.branch("s"), (await world.branch("s.2")).token
    outcome = Outcome(exit=Exit.COMPLETED, verify=PASSED, commit=await world._commit(winner))
    assert (await world.store.branches.finish(SWARM, "s", winner.token, outcome, wins=True)).won
    await reconcile(world.runtime)
    assert (await world.branch("s.2")).cancel_reason == "Cancelled by collapse controller: s won the race"
    assert (await world.branch("s.2")).state is BranchState.RUNNING, "its worker may live"
    await world.store.gate.call("HSET", keys.BRANCH(SWARM, "s.2"), "lease_until", 0)
    world.pump.messages.clear()
    await reconcile(world.runtime)
    assert ("branch", "s.2") not in world.pump.messages
    ended = (await world.branch("s.2")).outcome
    assert ended is not None
    assert (ended.exit, ended.error) == (Exit.CANCELLED, "Cancelled by collapse controller: s won the race")
    with pytest.raises(LeaseLost):
        await world.store.branches.finish(SWARM, "s.2", token, outcome)
    await world.settle()
    assert (await world.record()).state is SwarmState.SUCCEEDED


async def test_one_that_ends_verified_after_the_winner_is_not_taken(world: World, repo: Path) -> None:
    await world.start(plan(one("s", candidates=2)), repo)
    await world.settle()
    world.work |= {"s": {"b.txt": "one\n"}, "s.2": {"b.txt": "two\n"}}
    await world.end("s.2", verified=True)
    await world.end("s", verified=True)  # it was done before the revoke reached it
    await world.settle()
    record = await world.record()
    assert record.results["s"].branch_id == "s.2"
    assert git(repo, "show", f"swarmq/{SWARM}:b.txt") == "two"


async def test_without_verify_a_race_is_decided_when_all_have_ended(world: World, repo: Path) -> None:
    await world.start(plan(one("s", candidates=3)), repo)
    await world.settle()
    world.work |= {"s.2": {"b.txt": "two\n"}, "s.3": {"b.txt": "three\n"}}
    await world.end("s", Exit.FAILED)
    await world.end("s.3")
    await world.settle()
    assert not (await world.record()).results
    await world.end("s.2")
    await world.settle()
    record = await world.record()
    assert record.results["s"].branch_id == "s.3", "of equals, the first"
    assert (await world.store.races.load(SWARM))["s"].by == "score"
    assert record.state is SwarmState.SUCCEEDED


async def test_a_race_of_which_none_completes_fails_with_one_of_their_reasons(world: World, repo: Path) -> None:
    await world.start(plan(one("s", candidates=2), one("after", "s")), repo)
    await world.settle()
    await world.end("s", Exit.CANCELLED)
    await world.end("s.2", Exit.MAX_STEPS)
    await world.settle()
    record = await world.record()
    assert record.results["s"].branch_id == "s.2"
    assert record.results["after"].status is SubtaskStatus.BLOCKED
    assert record.state is SwarmState.FAILED


async def test_a_conflict_goes_to_a_resolver_whose_work_is_merged(world: World, repo: Path) -> None:
    await world.start(plan(one("x"), one("y"), one("z", "x", "y")), repo)
    await world.settle()
    world.work |= {"x": {"a.txt": "ONE\ntwo\nthree\n"}, "y": {"a.txt": "uno\ntwo\nthree\n"}}
    await world.end("y")
    await world.end("x")
    await world.settle()
    record = await world.record()
    assert set(record.results) == {"x"}, "merged in the order of the plan"
    resolver = await world.branch("y.r1")
    assert resolver.spec.resolves == "y"
    assert resolver.spec.theirs == (await world.branch("y")).outcome.commit  # type: ignore[union-attr]
    assert world.claimed == {"y.r1"}
    world.work["y.r1"] = {"a.txt": "ONE uno\ntwo\nthree\n"}
    await world.end("y.r1")
    await world.settle()
    record = await world.record()
    assert record.results["y"].success
    assert record.results["y"].resolved_by == "y.r1"
    assert record.results["y"].branch_id == "y"
    assert world.claimed == {"z"}
    base = (await world.branch("z")).spec.base_commit
    world.work["z"] = {"z.txt": "z\n"}
    await world.end("z")
    await world.settle()
    tip = git(repo, "rev-parse", f"swarmq/{SWARM}")
    assert git(repo, "show", f"{base}:a.txt") == git(repo, "show", f"{tip}:a.txt") == "ONE uno\ntwo\nthree"
    theirs = resolver.spec.theirs or ""
    assert git(repo, "merge-base", tip, theirs) == theirs, "no finished commit is left out"
    told = [event.type for event in await world.store.events.read(SWARM)]
    assert told.count(EventType.STAGE_FINISHED) == 2
    assert told.count(EventType.CONFLICT) == told.count(EventType.RESOLVING) == 1


async def test_a_swarm_leaves_the_users_repository_byte_for_byte(world: World, repo: Path) -> None:
    """Of a race, a resolver, a rejected merge and a failure, nothing is seen there but the result branch."""
    lived_in(repo)
    before = snapshot(repo)
    race, breaks = one("r", candidates=2), one("w")
    await world.start(plan(race, one("x"), one("y"), breaks, one("z", "y")), repo, verify="test ! -e broken")
    await world.settle()
    world.work |= {"r.2": {"r.txt": "2\n"}, "x": {"a.txt": "ONE\n"}, "y": {"a.txt": "uno\n"}, "w": {"broken": "1\n"}}
    await world.end("r.2", verified=True)
    await world.end("r", Exit.CANCELLED)
    for branch_id in ("x", "y", "w"):
        await world.end(branch_id)
    await world.settle()
    world.work |= {"y.r1": {"a.txt": "ONE uno\n"}}
    await world.end("y.r1")
    await world.settle()
    await world.end("z", Exit.MAX_STEPS)
    await world.settle()
    record = await world.record()
    assert record.state is SwarmState.PARTIAL
    rejected = record.results["w"].merge
    assert rejected is not None
    assert rejected.status == "rejected"
    assert changed(before, snapshot(repo)) == set()

    assert record.result is not None
    tip = record.result.commit or ""
    assert git(repo, "show", f"{tip}:a.txt") == "ONE uno"
    with pytest.raises(UsageError, match="uncommitted changes"):
        await fast_forward(repo, "main", tip)
    assert changed(before, snapshot(repo)) == set()
    hooked = repo.parent / "ran"
    assert not hooked.exists(), "no hook was run"
    git(repo, "reset", "-q", "--hard")
    hooked.unlink()
    before = snapshot(repo)
    await fast_forward(repo, "main", tip)
    moved = {"HEAD", "refs/heads/main"}
    logs = {f".git/logs/{name}" for name in moved}
    assert changed(before, snapshot(repo)) == {".git/refs/heads/main", ".git/index", "a.txt", "r.txt", *logs}
    assert not hooked.exists()


def lived_in(repo: Path) -> None:
    """A stash, a linked worktree, a tag, staged and unstaged changes, an untracked file, and hooks."""
    (repo / "a.txt").write_text("stashed\n")
    git(repo, "stash", "-q")
    git(repo, "tag", "-am", "one", "v1")
    git(repo, "worktree", "add", "-q", "-b", "side", "../linked")
    (repo / "staged.txt").write_text("staged\n")
    git(repo, "add", "staged.txt")
    (repo / "a.txt").write_text("not staged\n")
    (repo / "untracked.txt").write_text("mine\n")
    for name in ("post-checkout", "post-merge", "reference-transaction", "post-index-change", "pre-auto-gc"):
        hook = repo / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\ntouch ../ran\n")
    for hook in (repo / ".git" / "hooks").iterdir():
        hook.chmod(0o755)


async def test_a_resolver_that_fails_leaves_a_conflict_with_both_reasons(world: World, repo: Path) -> None:
    await world.start(plan(one("x"), one("y")), repo)
    await world.settle()
    world.work |= {"x": {"a.txt": "ONE\n"}, "y": {"a.txt": "uno\n"}}
    for branch_id in ("x", "y"):
        await world.end(branch_id)
    await world.settle()
    await world.end("y.r1", Exit.MAX_STEPS)
    await world.settle()
    record = await world.record()
    result = record.results["y"]
    assert result.status is SubtaskStatus.CONFLICT
    assert result.error == "conflicts with what is merged already in a.txt; the resolver failed: max_steps"
    assert record.state is SwarmState.PARTIAL


async def test_no_resolver_where_none_is_wanted(world: World, repo: Path) -> None:
    await world.start(plan(one("x"), one("y")), repo, resolve_conflicts=False)
    await world.settle()
    world.work |= {"x": {"a.txt": "ONE\n"}, "y": {"a.txt": "uno\n"}}
    for branch_id in ("x", "y"):
        await world.end(branch_id)
    await world.settle()
    assert (await world.record()).results["y"].status is SubtaskStatus.CONFLICT
    assert not await world.store.branches.exists(SWARM, "y.r1")


async def test_a_second_conflict_goes_to_a_second_resolver_and_no_further(world: World, repo: Path) -> None:
    """Two resolvers at once are each other's next conflict."""
    await world.start(plan(one("x"), one("y"), one("z")), repo)
    await world.settle()
    world.work |= {name: {"a.txt": f"{name}\ntwo\nthree\n"} for name in ("x", "y", "z")}
    for branch_id in ("x", "y", "z"):
        await world.end(branch_id)
    await world.settle()
    assert world.claimed == {"y.r1", "z.r1"}
    world.work |= {"y.r1": {"a.txt": "xy\ntwo\nthree\n"}, "z.r1": {"a.txt": "xz\ntwo\nthree\n"}}
    await world.end("y.r1")
    await world.end("z.r1")
    await world.settle()
    assert world.claimed == {"z.r2"}
    assert (await world.branch("z.r2")).spec.resolves == "z.r1"
    world.work["z.r2"] = {"a.txt": "xyz\ntwo\nthree\n"}
    await world.end("z.r2")
    await world.settle()
    record = await world.record()
    assert record.state is SwarmState.SUCCEEDED, record.result
    assert record.results["z"].resolved_by == "z.r2"
    assert git(repo, "show", f"swarmq/{SWARM}:a.txt") == "xyz\ntwo\nthree"


async def test_what_breaks_the_merged_tree_is_left_out_and_the_rest_stays(world: World, repo: Path) -> None:
    """Each is right alone; together the second breaks what verify asks for."""
    check = 'test "$(cat *.txt | grep -c new)" -le 1'
    await world.start(plan(one("x"), one("y"), one("z")), repo, verify=check)
    await world.settle()
    world.work |= {"x": {"x.txt": "new\n"}, "y": {"y.txt": "new\n"}, "z": {"z.txt": "old\n"}}
    for branch_id in ("x", "y", "z"):
        await world.end(branch_id, verified=True)
    await world.settle()
    record = await world.record()
    culprit = record.results["y"]
    assert [record.results[name].status for name in ("x", "z")] == [SubtaskStatus.SUCCEEDED] * 2
    assert culprit.status is SubtaskStatus.FAILED
    assert culprit.merge is not None
    assert culprit.merge.status == "rejected"
    assert check in (culprit.error or "")
    assert record.state is SwarmState.PARTIAL
    files = git(repo, "ls-tree", "--name-only", f"swarmq/{SWARM}").split()
    assert files == ["a.txt", "x.txt", "z.txt"]


async def test_ready_starts_each_subtask_behind_its_own_dependencies(world: World, repo: Path) -> None:
    await world.start(plan(one("a"), one("slow"), one("b", "a"), one("c", "b")), repo, schedule="ready")
    await world.settle()
    for name in ("a", "b", "c"):
        world.work[name] = {f"{name}.txt": name}
        assert world.claimed == {name, "slow"}
        assert (await world.branch("slow")).state is BranchState.RUNNING
        await world.end(name)
        await world.settle()
    world.work["slow"] = {"slow.txt": "slow"}
    await world.end("slow")
    await world.settle()
    record = await world.record()
    assert record.state is SwarmState.SUCCEEDED
    files = git(repo, "ls-tree", "--name-only", f"swarmq/{SWARM}").split()
    assert files == ["a.txt", "b.txt", "c.txt", "slow.txt"]
    base = (await world.branch("c")).spec.base_commit or ""
    assert git(repo, "ls-tree", "--name-only", base).split() == ["a.txt", "b.txt"], "it saw what it depends on"
    assert [record.results[name].stage for name in ("a", "slow", "b", "c")] == [0, 0, 1, 2]


async def test_ready_blocks_what_cannot_run_and_stops_where_told(world: World, repo: Path) -> None:
    tasks = plan(one("a"), one("slow"), one("b", "a"), one("c", "slow"))
    await world.start(tasks, repo, schedule="ready", on_failure="stop")
    await world.settle()
    await world.end("a", Exit.FAILED)
    await world.settle()
    world.work["slow"] = {"slow.txt": "slow"}
    await world.end("slow")
    await world.settle()
    record = await world.record()
    assert record.results["slow"].success
    assert "c" not in record.results
    assert record.state is SwarmState.PARTIAL


async def test_a_bug_that_strikes_each_time_ends_the_swarm_with_its_reason(
    world: World, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(settling, "candidate_results", bug)
    await world.start(plan(one("s", candidates=2)), repo)
    await world.settle()
    for branch_id in ("s", "s.2"):
        await world.end(branch_id, Exit.FAILED)
    for _ in range(MOST_FAILURES):
        with pytest.raises(ZeroDivisionError):
            await finish_stage(world.runtime, SWARM, 0)
    await world.settle()
    record = await world.record()
    assert record.state is SwarmState.FAILED
    assert record.error == "merge failed: ZeroDivisionError: a bug"


@st.composite
def swarms(draw: st.DrawFn) -> Plan:
    """Plans of readers, so that no git is needed, some of them raced over verify-kind branches."""
    count = draw(st.integers(1, 6))
    subtasks = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        races = draw(st.sampled_from([None, None, 2, 3]))
        kind = "verify" if races else "read"
        subtasks.append(one(f"s{number}", *(f"s{need}" for need in sorted(needs)), kind=kind, candidates=races))
    return plan(*subtasks)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(swarms(), st.sampled_from(["stages", "ready"]), st.integers(0, 2**32), st.integers(1, 4))
async def test_any_luck_with_messages_ends_the_swarm_right(
    world: World, tasks: Plan, schedule: str, seed: int, max_subagents: int
) -> None:
    """Messages are lost, doubled and out of order; reconcile looks now and then. Each subtask gets its one result."""
    luck = random.Random(seed)
    await world.store.swarms.delete(SWARM)
    world.pump.messages.clear()
    world.claimed.clear()
    await world.start(tasks, None, schedule=schedule, max_subagents=max_subagents)
    for _ in range(2000):
        record = await world.record()
        if record.state.final:
            break
        await one_step(world, luck)
    else:
        pytest.fail(f"it does not end: {record}")
    assert set(record.results) == {subtask.id for subtask in plan_of(record).subtasks}
    for subtask in tasks.subtasks:
        needs = [record.results[tasks.ids[name]] for name in subtask.dependencies]
        blocked = record.results[subtask.id].status is SubtaskStatus.BLOCKED
        assert blocked == any(not need.success for need in needs)
        if record.results[subtask.id].candidates and record.results[subtask.id].success:
            assert sum(each.promoted for each in record.results[subtask.id].candidates) == 1
    finished = [e for e in await world.store.events.read(SWARM) if e.type is EventType.BRANCH_FINISHED]
    assert len({event.branch for event in finished}) == len(finished)


async def one_step(world: World, luck: random.Random) -> None:
    """A message, or the end of a branch, or nothing but time."""
    messages, roll = world.pump.messages, luck.random()
    for branch in await world.store.branches.load_all(SWARM):
        if branch.state is BranchState.RUNNING and branch.cancel_reason is not None:
            await world.end(branch.spec.id, Exit.CANCELLED)
            return
    if messages and roll < 0.7:
        message = messages.pop(luck.randrange(len(messages)))
        if luck.random() < 0.15:
            return  # lost
        await world.carry_out(message)
        if luck.random() < 0.15:
            await world.carry_out(message)
    elif world.claimed and roll < 0.9:
        branch_id = luck.choice(sorted(world.claimed))
        exit_ = Exit.COMPLETED if luck.random() < 0.8 else Exit.FAILED
        await world.end(branch_id, exit_, verified=exit_ is Exit.COMPLETED and luck.random() < 0.5)
    else:
        await reconcile(world.runtime)
