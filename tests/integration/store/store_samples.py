"""Swarms and branches as the store's tests need them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.messages import Usage, user
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import SubtaskResult, SubtaskStatus, SwarmResult, SwarmSpec, SwarmState
from swarmq.models.transcript import Entry
from swarmq.store.store import Store
from swarmq.store.transcripts import Recorded, Reservation

T = TypeVar("T")

LEASE_SECONDS = 60.0
SWARM = "swarm00001"
DONE = Outcome(exit=Exit.COMPLETED, text="done", steps=2)
FAILED = Outcome(exit=Exit.FAILED, error="it broke", fault="agent")


def swarm_spec(swarm_id: str = SWARM, **options: Any) -> SwarmSpec:
    return SwarmSpec(
        id=swarm_id,
        task="mend the parser",
        options=SwarmOptions(**options),
        created_at=time.time(),
        celery_task_id=f"task-{swarm_id}",
    )


def branch_spec(branch_id: str, stage: int = 0, swarm_id: str = SWARM) -> BranchSpec:
    return BranchSpec(
        swarm_id=swarm_id,
        id=branch_id,
        subtask_id=branch_id.partition(".")[0],
        stage=stage,
        kind=Kind.EDIT,
        celery_task_id=f"{swarm_id}.{branch_id}",
    )


def plan(*names: str) -> Plan:
    return Plan(subtasks=tuple(Subtask(name=name, instruction=f"do {name}") for name in names))


async def opened(store: Store, *branch_ids: str, max_subagents: int = 100, **options: Any) -> list[str]:
    """A swarm with these branches in stage 0; returns those that are queued."""
    await store.swarms.create(swarm_spec(max_subagents=max_subagents, **options))
    await store.swarms.set_plan(SWARM, plan(*branch_ids))
    return list(await store.stages.open(SWARM, 0, [branch_spec(id_) for id_ in branch_ids], max_subagents))


async def record(
    store: Store, branch_id: str, token: int, index: int, *texts: str, steps: int = 0, reserve: bool = False
) -> Recorded:
    return await store.transcripts.record(
        SWARM,
        branch_id,
        token,
        index,
        [Entry(step=0, at=1.0, message=user(text)).encode() for text in texts],
        [],
        steps=steps,
        tool_calls=0,
        usage=Usage(input_tokens=10 * steps, output_tokens=steps),
        reserve=Reservation() if reserve else None,
    )


def event(type_: EventType = EventType.BRANCH_MESSAGE, **data: Any) -> Event:
    return Event(type=type_, at=time.time(), swarm=SWARM, branch="a", data=data)


def result(subtask_id: str, status: SubtaskStatus = SubtaskStatus.SUCCEEDED) -> SubtaskResult:
    return SubtaskResult(subtask_id=subtask_id, name=subtask_id, stage=0, kind=Kind.EDIT, status=status)


def swarm_result(state: SwarmState = SwarmState.SUCCEEDED, **fields: Any) -> SwarmResult:
    return SwarmResult(id=SWARM, state=state, report="all is well", **fields)


async def until(look: Callable[[], Awaitable[T]], seconds: float = 10.0) -> T:
    """What ``look`` finds, as soon as it finds something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.001)
        return found


async def lease_over(store: Store, branch_id: str) -> None:
    """Wait until the branch's lease has run out by the clock of Redis."""

    async def over() -> bool:
        return (await store.branches.load(SWARM, branch_id)).lease_until < await store.now()

    await until(over)
