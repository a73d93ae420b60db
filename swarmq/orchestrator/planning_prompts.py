"""What the planner is told. Pure text building."""

from __future__ import annotations

from typing import Any

from swarmq.models.messages import ToolSpec
from swarmq.models.options import Strategy
from swarmq.models.plan import Kind
from swarmq.models.swarm import SwarmSpec

SUBMIT_PLAN = "submit_plan"

_STRATEGIES = {
    Strategy.AUTOMATIC: (
        "Choose the split that lets most of the work go on at the same time: by area, by amount of data or by phases, "
        "whichever fits the task. A task that one agent does as well alone is one subtask."
    ),
    Strategy.BY_DOMAIN: (
        "Split by area of knowledge: each subtask is what one specialist would take on (such as storage, interface, "
        "tests, documentation), with that specialty."
    ),
    Strategy.BY_DATA: (
        "Split by data: the same work on disjoint parts of the input (files, modules, records, sources), of about "
        "equal size; where the parts have to be brought together, one last subtask depends on all of them."
    ),
    Strategy.BY_STAGE: (
        "Split by phases that build on each other (such as look, design, change, check), with the work of each phase "
        "that can go on at the same time as subtasks of their own."
    ),
}

_KINDS = """\
- edit: changes files. It must leave changes; they are committed and merged. Say in files which ones, as paths or \
globs from the root of the repository, as far as they can be told: subtasks that name the same files are put in order.
- verify: runs commands and checks; nothing that it writes is kept.
- read: only reads and reports; it cannot run commands."""

_RULES = """\
Rules:
- Each subtask is done by an agent of its own that sees its instruction and the results of its dependencies, and \
nothing else: no conversation, no other subtask. Write instructions that stand alone: what to do, where, what must not \
change, how to see that it is done.
- Subtasks without a path between them run at the same time, each in a copy of the files of its own. Two of them must \
not edit the same file, or their work will conflict.
- Name as dependencies the subtasks whose results or changes are needed, by their exact names, and no others: every \
needless dependency makes the whole wait. There is no cycle.
- Names are short, unique and different in letters or digits.
- Priority (-100 to 100, usually 0) only decides who starts first within a stage."""


def system_text(spec: SwarmSpec, *, has_files: bool) -> str:
    """The planner's system prompt for that swarm's strategy and limits."""
    strategy = _STRATEGIES.get(spec.options.strategy, _STRATEGIES[Strategy.AUTOMATIC])
    most = spec.options.max_subtasks
    kinds = (
        f"Each subtask has a kind:\n{_KINDS}" if has_files else "There are no files: every subtask is of the kind read."
    )
    return (
        "You plan the work of a team of agents: you split one large task into subtasks. You do none of them yourself."
        f"\n\n{strategy} At most {most} subtask{'s' if most != 1 else ''}; fewer, larger ones are better than many "
        f"tiny ones.\n\n{kinds}\n\n{_RULES}\n\nAnswer by calling {SUBMIT_PLAN} once. If you cannot call tools, answer "
        'with nothing but the JSON: {"subtasks": [{"name": ..., "instruction": ..., "specialty": ..., '
        '"dependencies": [...], "priority": 0, "kind": "edit", "files": [...]}]}'
    )


def task_text(spec: SwarmSpec, overview: str = "") -> str:
    """The planner's user prompt; ``overview`` is what is known of the files."""
    sections = [f"The task:\n\n{spec.task.strip()}"]
    if spec.context.strip():
        sections.append(f"What came before it:\n\n{spec.context.strip()}")
    if overview.strip():
        sections.append(f"The repository:\n\n{overview.strip()}")
    return "\n\n".join(sections)


def repair_text(error: str) -> str:
    """What is said to a plan that is none."""
    return (
        f"That is not a valid plan: {error}\nMend this and submit the whole plan again, by calling {SUBMIT_PLAN} or as "
        "one JSON object."
    )


def submit_plan(*, has_files: bool) -> ToolSpec:
    """The tool that the planner answers with."""
    kinds = [kind.value for kind in Kind] if has_files else [Kind.READ.value]
    subtask: dict[str, Any] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Short and unique."},
            "instruction": {"type": "string", "description": "All that the agent needs to know; it sees nothing else."},
            "specialty": {"type": "string", "description": "What the agent is good at, such as 'database migrations'."},
            "dependencies": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Exact names of the subtasks whose results or changes it needs.",
            },
            "priority": {"type": "integer", "minimum": -100, "maximum": 100},
            "kind": {"type": "string", "enum": kinds},
        },
        "required": ["name", "instruction", "specialty", "dependencies", "kind"],
    }
    if has_files:
        subtask["properties"]["files"] = {
            "type": "array",
            "items": {"type": "string"},
            "description": "Of an edit: paths or globs of the files that it will change, such as 'src/parser/**'.",
        }
    return ToolSpec(
        name=SUBMIT_PLAN,
        description="Submit the plan: the subtasks that the task is split into.",
        parameters={
            "type": "object",
            "properties": {"subtasks": {"type": "array", "minItems": 1, "items": subtask}},
            "required": ["subtasks"],
        },
    )
