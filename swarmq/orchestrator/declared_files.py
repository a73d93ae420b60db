"""What subtasks say that they will change: those that would meet are put in order, or told of. Pure.

Two subtasks without a path between them work at the same time, each in a copy of the files of its own. Where both
change the same file, one's work may conflict with the other's when it is merged; waiting costs less than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from swarmq.models.branch import Outcome
from swarmq.models.file_globs import matches, may_meet
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import DeclaredFiles
from swarmq.orchestrator.paths import ancestors, in_order

SHOWN = 5
MAX_COMPARED = 1000
"""Paths and globs of a whole plan; each is compared with all others, which must not hold up a worker."""


@dataclass(frozen=True)
class Overlap:
    """Two subtasks by name, in plan order, and what each declares of the same."""

    first: str
    second: str
    globs: tuple[str, str]

    @property
    def shown(self) -> str:
        one, other = self.globs
        return one if one == other else f"{one}, {other}"


@dataclass(frozen=True)
class Settled:
    """The plan, maybe with more dependencies, and what is to be said of it."""

    plan: Plan
    note: str | None


def settle(plan: Plan, how: Literal["auto", "order", "flag"], *, by_model: bool) -> Settled:
    """Put subtasks with overlapping files in order, or only tell of them.

    ``auto`` changes only what a model has planned, and only if no more than half of the subtasks that declare files
    would have to wait for another: declarations that all meet (``src/**`` everywhere) say nothing of conflicts.
    """
    declared = sum(len(subtask.files) for subtask in _declaring(plan))
    if declared > MAX_COMPARED:
        return Settled(plan, f"{declared:,} declared files are too many to be compared (at most {MAX_COMPARED:,}).")
    found = overlaps(plan)
    if not found:
        return Settled(plan, None)
    ordered = in_turn(plan, found)
    waiting = [one.name for one, was in zip(ordered.subtasks, plan.subtasks, strict=True) if one != was]
    many = 2 * len(waiting) > len(_declaring(plan))
    if how == "order" or (how == "auto" and by_model and not many):
        return Settled(ordered, f"Declared files overlap, so some subtasks wait for others: {_waits(plan, ordered)}.")
    pairs = _listed([f"{one.first} and {one.second} ({one.shown})" for one in found])
    why = "; most subtasks would have to wait, so they are left as they are" if how == "auto" and by_model else ""
    return Settled(plan, f"Declared files overlap, which may end in conflicts: {pairs}{why}.")


def overlaps(plan: Plan) -> tuple[Overlap, ...]:
    """Pairs that work at the same time and declare a file of the same name, in plan order."""
    before = ancestors(in_order(plan))
    found = []
    for first, second in combinations(_declaring(plan), 2):
        if first.name in before[second.name] or second.name in before[first.name]:
            continue
        globs = next((pair for pair in product(first.files, second.files) if may_meet(*pair)), None)
        if globs is not None:
            found.append(Overlap(first.name, second.name, globs))
    return tuple(found)


def in_turn(plan: Plan, found: Iterable[Overlap]) -> Plan:
    """The plan in which of each pair the second waits for the first, if no path has led from one to the other by then.

    No added dependency is one that follows from the others.
    """
    before = ancestors(in_order(plan))
    added: dict[str, list[str]] = {}
    for pair in found:
        first, second = pair.first, pair.second
        if first in before[second] or second in before[first]:
            continue
        added.setdefault(second, []).append(first)
        for name, earlier in before.items():
            if name == second or second in earlier:
                earlier |= {first, *before[first]}
    return Plan(subtasks=tuple(_waiting(subtask, added.get(subtask.name, ()), before) for subtask in plan.subtasks))


def _waiting(subtask: Subtask, added: Sequence[str], before: dict[str, set[str]]) -> Subtask:
    every = {*subtask.dependencies, *added}
    needed = [name for name in added if not any(name in before[other] for other in every)]
    return subtask.model_copy(update={"dependencies": (*subtask.dependencies, *needed)}) if needed else subtask


def _declaring(plan: Plan) -> list[Subtask]:
    return [subtask for subtask in plan.subtasks if subtask.files and subtask.kind is Kind.EDIT]


def _waits(plan: Plan, ordered: Plan) -> str:
    said = []
    for was, one in zip(plan.subtasks, ordered.subtasks, strict=True):
        more = one.dependencies[len(was.dependencies) :]
        if more:
            said.append(f"{one.name} for {' and '.join(more)}")
    return _listed(said)


def _listed(said: Sequence[str]) -> str:
    more = f" and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    return "; ".join(said[:SHOWN]) + more


def declared_against_actual(subtask: Subtask, outcome: Outcome) -> DeclaredFiles | None:
    """How the files that a branch changed compare with those declared; None where either is not there."""
    if not subtask.files or not outcome.files or subtask.kind is not Kind.EDIT:
        return None
    changed = outcome.files
    return DeclaredFiles(
        undeclared=tuple(file for file in changed if not any(matches(file, glob) for glob in subtask.files)),
        untouched=tuple(glob for glob in subtask.files if not any(matches(file, glob) for file in changed)),
    )
