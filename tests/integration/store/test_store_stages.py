"""Stages: opened once, added to, closed once."""

from __future__ import annotations

import pytest
from store_samples import DONE, SWARM, branch_spec, opened, swarm_spec

from swarmq.errors import NotFoundError
from swarmq.models.branch import BranchState
from swarmq.models.events import EventType
from swarmq.models.swarm import MergeReport, SwarmState
from swarmq.store.store import Store


async def test_opening_again_publishes_what_is_still_queued(store: Store) -> None:
    assert await opened(store, "b", "a", "c", max_subagents=2) == ["b", "a"]
    await store.branches.claim(SWARM, "b", "w", 60)
    specs = [branch_spec(id_) for id_ in ("b", "a", "c")]
    assert await store.stages.open(SWARM, 0, specs, 2) == ["a"]
    states = {found.spec.id: found.state for found in await store.branches.load_all(SWARM)}
    assert states == {"b": BranchState.RUNNING, "a": BranchState.QUEUED, "c": BranchState.WAITING}
    swarm = await store.swarms.load(SWARM)
    assert (swarm.state, swarm.stage) == (SwarmState.RUNNING, 0)
    assert swarm.started_at > 0
    told = [found for found in await store.events.read(SWARM) if found.type is EventType.STAGE_STARTED]
    assert [found.data for found in told] == [{"stage": 0, "branches": ["b", "a", "c"]}]
    queued = [found.branch for found in await store.events.read(SWARM) if found.type is EventType.BRANCH_QUEUED]
    assert queued == ["b", "a"]


async def test_a_stage_without_branches_is_complete_at_once(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    assert await store.stages.open(SWARM, 0, [], 10) == []
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.branch_ids, stage.done_ids) == ("advancing", (), frozenset())
    told = [found for found in await store.events.read(SWARM) if found.type is EventType.STAGE_STARTED]
    assert [found.data["branches"] for found in told] == [[]]


async def test_adding_a_branch_opens_a_complete_stage_again(store: Store) -> None:
    await opened(store, "a")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    assert (await store.branches.finish(SWARM, "a", held.token, DONE)).advance
    assert await store.stages.open(SWARM, 0, [branch_spec("a.2")], 5) == ["a.2"]
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.branch_ids) == ("open", ("a", "a.2"))
    again = await store.branches.claim(SWARM, "a.2", "w", 60)
    assert (await store.branches.finish(SWARM, "a.2", again.token, DONE)).advance


async def test_a_later_stage_moves_the_swarm_on_and_an_older_one_not_back(store: Store) -> None:
    await opened(store, "a")
    await store.stages.open(SWARM, 1, [branch_spec("b", 1)], 5)
    await store.stages.open(SWARM, 0, [branch_spec("a")], 5)
    assert (await store.swarms.load(SWARM)).stage == 1


async def test_merges_are_kept_and_a_stage_is_closed_once(store: Store) -> None:
    await opened(store, "a")
    report = MergeReport(status="conflict", files=("x.py",), conflicts=("x.py",), diffs={"x.py": ("-1", "+1")})
    await store.stages.record_merge(SWARM, 0, "a", report)
    await store.stages.record_merge(SWARM, 0, "a", MergeReport(status="merged"))  # of a holder that woke up late
    assert await store.stages.close(SWARM, 0, 2, 1)
    assert not await store.stages.close(SWARM, 0, 2, 1)  # another call, not the same one repeated
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert (stage.state, stage.merges) == ("finished", {"a": report})
    assert stage.finished_at >= stage.opened_at > 0
    told = [found for found in await store.events.read(SWARM) if found.type is EventType.STAGE_FINISHED]
    assert len(told) == 1
    assert (told[0].data["stage"], told[0].data["succeeded"], told[0].data["failed"]) == (0, 2, 1)
    assert 0 <= told[0].data["seconds"] < 60


async def test_opening_a_finished_stage_again_leaves_it_finished(store: Store) -> None:
    await opened(store, "a")
    held = await store.branches.claim(SWARM, "a", "w", 60)
    await store.branches.finish(SWARM, "a", held.token, DONE)
    await store.stages.close(SWARM, 0, 1, 0)
    assert await store.stages.open(SWARM, 0, [branch_spec("a")], 5) == []
    stage = await store.stages.load(SWARM, 0)
    assert stage is not None
    assert stage.state == "finished"


async def test_what_is_not_there(store: Store) -> None:
    await store.swarms.create(swarm_spec())
    assert await store.stages.load(SWARM, 0) is None
    with pytest.raises(NotFoundError, match="no stage 3"):
        await store.stages.close(SWARM, 3, 0, 0)
    with pytest.raises(NotFoundError, match="no stage 3"):
        await store.stages.record_merge(SWARM, 3, "a", MergeReport(status="empty"))
    with pytest.raises(NotFoundError, match="no swarm nowhere000"):
        await store.stages.open("nowhere000", 0, [], 1)
