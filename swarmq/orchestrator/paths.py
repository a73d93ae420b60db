"""Paths through a plan's dependencies. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarmq.models.plan import Plan, Subtask


def in_order(plan: Plan) -> list[Subtask]:
    """Every subtask behind those that it depends on."""
    return [subtask for stage in plan.stages for subtask in stage]


def critical_path(plan: Plan, weights: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    """The heaviest path along dependencies, and the names on it; ``weights`` by name, 0 where there is none.

    No schedule is faster than its weight in seconds, however many workers there are.
    """
    longest: dict[str, float] = {}
    before: dict[str, str] = {}
    for subtask in in_order(plan):
        heaviest = max(subtask.dependencies, key=lambda name: longest[name], default=None)
        longest[subtask.name] = weights.get(subtask.name, 0) + (longest[heaviest] if heaviest is not None else 0)
        if heaviest is not None:
            before[subtask.name] = heaviest
    last = max(longest, key=lambda name: longest[name])
    names = [last]
    while names[-1] in before:
        names.append(before[names[-1]])
    return longest[last], tuple(reversed(names))


def ancestors(subtasks: Sequence[Subtask]) -> dict[str, set[str]]:
    """By name: all that it waits for, directly or not. The subtasks stand behind those that they depend on."""
    found: dict[str, set[str]] = {}
    for subtask in subtasks:
        found[subtask.name] = union(subtask.dependencies, found)
    return found


def union(names: Sequence[str], ancestors_of: Mapping[str, set[str]]) -> set[str]:
    """The names and all that they wait for."""
    return set(names).union(*(ancestors_of[name] for name in names))
