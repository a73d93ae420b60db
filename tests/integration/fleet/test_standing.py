"""A look at a swarm while others move it on: what it sees may be old, and never the swarm's end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import says
from fleet_fakes import OneModel, Sent

from swarmq.fleet.branch import run_branch
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.stages import go_on, start_stage
from swarmq.fleet.standing import Standing
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmSpec, SwarmState
from swarmq.orchestrator.scheduling import Move, Schedule
from swarmq.settings import load_settings
from swarmq.store.store import Store

SWARM = "swarm00001"
NAMES = ("First", "Second", "Third")
PLAN = Plan(
    subtasks=tuple(
        Subtask(name=name, instruction="Look", kind="read", dependencies=NAMES[:number][-1:])
        for number, name in enumerate(NAMES)
    )
)


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path, lease_seconds=3, heartbeat_seconds=0.5, model="test:x")
    models = OneModel(*(says("It is there.") for _ in NAMES))
    return Runtime(settings, store, models, Sent(), "worker")  # type: ignore[arg-type]


async def first_has_ended(runtime: Runtime, schedule: Schedule) -> None:
    """Its branch has; nothing of that is settled."""
    options = SwarmOptions(schedule=schedule)
    await runtime.store.swarms.create(
        SwarmSpec(id=SWARM, task="look", options=options, plan=PLAN, created_at=time.time())
    )
    await plan_swarm(runtime, SWARM)
    await start_stage(runtime, SWARM)
    assert (await run_branch(runtime, SWARM, "first", None, None))["status"] == "completed"


def meanwhile(owner: Any, method: str, happens: Callable[[], Awaitable[object]], patch: pytest.MonkeyPatch) -> None:
    """Let something happen right before the next call of a method of the store."""
    original, left = getattr(owner, method), [happens]

    async def call(*arguments: Any) -> Any:
        if left:
            await left.pop()()
        return await original(*arguments)

    patch.setattr(owner, method, call)


READS = (("stages", "load_all"), ("swarms", "load"), ("branches", "load_all"), ("races", "load"))


@pytest.mark.parametrize("schedule", ["stages", "ready"])
@pytest.mark.parametrize(("part", "method"), READS, ids=lambda name: str(name))
async def test_a_stage_that_closes_or_opens_in_the_middle_of_a_look_is_no_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, part: str, method: str, schedule: Schedule
) -> None:
    await first_has_ended(runtime, schedule)
    store = runtime.store

    async def settled() -> None:
        await finish_stage(runtime, SWARM, 0)

    async def opened() -> None:
        await start_stage(runtime, SWARM)

    for happens, stage in ((settled, 0), (opened, 1)):
        record = await store.swarms.load(SWARM)
        meanwhile(getattr(store, part), method, happens, monkeypatch)
        standing = await Standing.load(store, SWARM, record)
        assert standing.move is not Move.FINISH
        await go_on(runtime, standing)
        now = await store.swarms.load(SWARM)
        assert (now.state, now.stage) == (SwarmState.RUNNING, stage)
