"""Making a plan in this process, and showing plans."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from swarmq.cli.dag import draw
from swarmq.cli.render import one_line, plain, table

if TYPE_CHECKING:
    from swarmq.cli.preflight import Checked
    from swarmq.models.plan import Plan
    from swarmq.orchestrator.decompose import Decomposition

INSTRUCTION_CHARACTERS = 200
LEAST_CHARACTERS = {"subtask": 40, "specialty": 20, "needs": 12, "files": 12, "instruction": 32}
"""To what a plan's columns are cut where a terminal is narrow; the graph below has the needs, too."""


async def make_plan(checked: Checked) -> Decomposition:
    """The given plan, or the model's: needs neither Redis nor workers. OptionError where a budget leaves no room."""
    from swarmq.agent.context import text_tokens
    from swarmq.cli.options import told_in_flags
    from swarmq.fleet.spending import require_room
    from swarmq.models.messages import Usage
    from swarmq.models.plan import Plan
    from swarmq.orchestrator.decompose import Decomposition, given_plan, plan_task, single_subtask
    from swarmq.providers.registry import Models

    spec = checked.spec
    if spec.plan is not None:
        return given_plan(spec.plan, spec)
    if spec.options.strategy == "none":
        return Decomposition(Plan(subtasks=(single_subtask(spec),)), None, Usage())
    models = Models(checked.settings)
    with told_in_flags():
        require_room(models, spec.options, checked.planner, text_tokens(spec.task + spec.context))
    try:
        return await plan_task(await models.open(checked.planner), spec)
    finally:
        await models.aclose()


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
