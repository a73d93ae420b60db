"""A plan's DAG as text: one line a subtask, one lane for each result that is still needed further down. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmq.models.plan import Plan, Subtask

MAX_LANES = 24
"""A drawing with more lanes is wider than most terminals; dependencies are then named instead."""


def draw(plan: Plan) -> list[str]:
    """The lines of the drawing, in the order of the stages, each stage's number before its first subtask."""
    rows = _lanes(plan)
    if rows is None:
        rows = [("●", _named(subtask)) for stage in plan.stages for subtask in stage]
    width = max(len(lanes) for lanes, _ in rows)
    lines, row = [], iter(rows)
    for number, stage in enumerate(plan.stages):
        for index in range(len(stage)):
            lanes, label = next(row)
            lines.append(f"{f'stage {number}' if index == 0 else '':9} {lanes.ljust(width)} {label}")
    return lines


def _named(subtask: Subtask) -> str:
    return f"{_label(subtask)} ← {', '.join(subtask.dependencies)}" if subtask.dependencies else _label(subtask)


def _label(subtask: Subtask) -> str:
    return f"{subtask.name} ({subtask.kind})"


def _lanes(plan: Plan) -> list[tuple[str, str]] | None:
    """Each subtask's lanes and label; None where there would be too many lanes."""
    open_uses = Counter(name for subtask in plan.subtasks for name in set(subtask.dependencies))
    lanes: list[str | None] = []
    rows = []
    for subtask in (subtask for stage in plan.stages for subtask in stage):
        sources = sorted(lanes.index(name) for name in set(subtask.dependencies))
        column = _free_lane(lanes, sources[-1] + 1 if sources else 0)
        lanes += [None] * (column + 1 - len(lanes))
        open_uses.subtract(set(subtask.dependencies))
        rows.append((_row(lanes, sources, column, open_uses), _label(subtask)))
        for source in sources:
            if not open_uses[lanes[source] or ""]:
                lanes[source] = None
        if open_uses[subtask.name]:
            lanes[column] = subtask.name
        while lanes and lanes[-1] is None:
            lanes.pop()
        if len(lanes) > MAX_LANES:
            return None
    return rows


def _free_lane(lanes: list[str | None], first: int) -> int:
    """The leftmost lane from ``first`` on that carries nothing."""
    return next((lane for lane in range(first, len(lanes)) if lanes[lane] is None), max(first, len(lanes)))


def _row(lanes: list[str | None], sources: list[int], column: int, open_uses: Counter[str]) -> str:
    """One line: lanes that lead into ``column``, and lanes that only pass by."""
    line = ""
    for lane, name in enumerate(lanes):
        leads = bool(sources) and sources[0] <= lane < column
        if lane == column:
            glyph = "●"
        elif lane in sources:
            ends = not open_uses[name or ""]
            glyph = ("╰" if ends else "├") if lane == sources[0] else ("┴" if ends else "┼")
        elif name is not None:
            glyph = "│"
        else:
            glyph = "─" if leads else " "
        line += glyph + ("─" if leads else " ")
    return line.rstrip()
