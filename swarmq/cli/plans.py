"""Making a plan in this process, and showing plans."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from swarmq.cli.dag import draw
from swarmq.cli.render import one_line, plain, table

if TYPE_CHECKING:
    from swarmq.cli.preflight import Checked
    from swarmq.models.plan import Plan

INSTRUCTION_CHARACTERS = 200
LEAST_CHARACTERS = {"subtask": 40, "specialty": 20, "needs": 12, "files": 12, "instruction": 32}
"""To what a plan's columns are cut where a terminal is narrow; the graph below has the needs, too."""


async def make_plan(checked: Checked) -> tuple[Plan, str | None, int]:
    """The given plan, or the model's: needs neither Redis nor workers. With a note, and the tokens that it cost."""
    from swarmq.models.plan import Plan
    from swarmq.orchestrator.decompose import given_plan, plan_task, single_subtask
    from swarmq.providers.registry import Models

    spec = checked.spec
    if spec.plan is not None:
        given = given_plan(spec.plan, spec)
        return given.plan, given.note, 0
    if spec.options.strategy == "none":
        return Plan(subtasks=(single_subtask(spec),)), None, 0
    models = Models(checked.settings)
    try:
        made = await plan_task(await models.open(checked.planner), spec)
    finally:
        await models.aclose()
    return made.plan, made.note, made.usage.input_tokens + made.usage.output_tokens


def print_plan(plan: Plan, stream: TextIO | None = None) -> None:
    """Table and DAG, on stdout unless named."""
    to = stream or sys.stdout
    declares = any(subtask.files for subtask in plan.subtasks)
    rows = [
        (
            str(number),
            subtask.name,
            subtask.kind.value,
            subtask.specialty,
            str(subtask.priority),
            ", ".join(subtask.dependencies) or "-",
            *((", ".join(subtask.files) or "-",) if declares else ()),
            one_line(subtask.instruction, INSTRUCTION_CHARACTERS),
        )
        for number, stage in enumerate(plan.stages)
        for subtask in stage
    ]
    files = ("files",) if declares else ()
    headers = ("stage", "subtask", "kind", "specialty", "priority", "needs", *files, "instruction")
    table(headers, rows, least=LEAST_CHARACTERS, spare=("priority", "specialty", "kind", "files", "needs"), to=to)
    to.write("\n" + "\n".join(plain(line) for line in draw(plan)) + "\n")
    to.flush()
