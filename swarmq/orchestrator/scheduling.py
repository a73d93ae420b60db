"""Which subtasks may start, and what a swarm does next (S3). Pure.

``stages``: a stage starts when the one before it is merged. ``ready``: a subtask starts as soon as its own dependencies
are merged; what became ready together is a stage of its own then, numbered as they come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskResult

Schedule = Literal["stages", "ready"]


@dataclass(frozen=True)
class Opening:
    """What starts now, in priority order, as which stage; and what never will (subtask id -> why)."""

    stage: int
    ready: tuple[Subtask, ...] = ()
    blocked: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ready or self.blocked)


class Move(StrEnum):
    """What a swarm does next."""

    WAIT = "wait"
    """Something that is open will end, and ask again."""
    OPEN = "open"
    FINISH = "finish"


def opening(
    plan: Plan, schedule: Schedule, results: Mapping[str, SubtaskResult], opened: Collection[str], last_stage: int
) -> Opening:
    """The next stage. ``opened`` are ids of subtasks that have branches, ``last_stage`` is the newest stage or -1."""
    if schedule == "ready":
        return _ready(plan, results, opened, last_stage)
    left = [subtask for stage in plan.stages for subtask in stage if not _known(subtask, results, opened)]
    if not left or any(id_ not in results for id_ in opened):
        return Opening(last_stage + 1)
    number = plan.depths[left[0].name]
    ready, blocked = _split(plan, [subtask for subtask in left if plan.depths[subtask.name] == number], results)
    return Opening(number, tuple(ready), blocked)


def _ready(plan: Plan, results: Mapping[str, SubtaskResult], opened: Collection[str], last_stage: int) -> Opening:
    """Subtasks all of whose dependencies have results; who depends on a blocked one is blocked in the same go."""
    ready: list[Subtask] = []
    blocked: dict[str, str] = {}
    ids = plan.ids
    for subtask in (subtask for stage in plan.stages for subtask in stage):  # dependencies come first
        if _known(subtask, results, opened):
            continue
        needs = [ids[name] for name in subtask.dependencies]
        bad = [
            name
            for name in subtask.dependencies
            if ids[name] in blocked or (ids[name] in results and not results[ids[name]].success)
        ]
        if bad:
            blocked[subtask.id] = _blocked_by(bad)
        elif all(id_ in results for id_ in needs):
            ready.append(subtask)
    ready.sort(key=lambda subtask: -subtask.priority)
    return Opening(last_stage + 1, tuple(ready), blocked)


def _known(subtask: Subtask, results: Mapping[str, SubtaskResult], opened: Collection[str]) -> bool:
    return subtask.id in results or subtask.id in opened


def _split(
    plan: Plan, stage: Collection[Subtask], results: Mapping[str, SubtaskResult]
) -> tuple[list[Subtask], dict[str, str]]:
    ready: list[Subtask] = []
    blocked: dict[str, str] = {}
    for subtask in stage:
        found = {name: results.get(plan.ids[name]) for name in subtask.dependencies}
        bad = [name for name, result in found.items() if result is None or not result.success]
        if bad:
            blocked[subtask.id] = _blocked_by(bad)
        else:
            ready.append(subtask)
    return ready, blocked


def _blocked_by(names: Collection[str]) -> str:
    return f"blocked by {', '.join(names)}"


def next_move(next_opening: Opening, *, stops: bool, any_open: bool) -> Move:
    """``stops``: nothing new is to start. ``any_open``: some stage's branches run, or its merges are to be made."""
    if next_opening and not stops:
        return Move.OPEN
    return Move.WAIT if any_open else Move.FINISH
