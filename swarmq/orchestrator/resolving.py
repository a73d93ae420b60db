"""What a resolver is told: an agent that is given both sides of a merge conflict (S7). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskResult

MOST_RESOLVERS = 2
"""Of one subtask: while the first worked, others may have been merged, with which its work conflicts as well."""
INSTRUCTION_CHARACTERS = 4_000
"""Of each side's instruction."""
RESULT_CHARACTERS = 2_000
OTHERS_SHOWN = 5


def other_sides(plan: Plan, subtask: Subtask, results: Mapping[str, SubtaskResult], files: Iterable[str]) -> list[str]:
    """Ids of merged subtasks that changed one of the files, in plan order."""
    conflicts = set(files)
    merged = (one.id for one in plan.subtasks if one.id != subtask.id)
    found = ((id_, results[id_].merge) for id_ in merged if id_ in results)
    return [
        id_ for id_, merge in found if merge is not None and merge.status == "merged" and conflicts & {*merge.files}
    ]


def resolver_instruction(
    plan: Plan,
    subtask: Subtask,
    results: Mapping[str, SubtaskResult],
    files: Sequence[str],
    description: str,
) -> str:
    """The task of a resolver: both instructions, what conflicts, and what counts as done."""
    others = other_sides(plan, subtask, results, files)
    shown = "\n\n".join(_side(plan.subtask(id_), results[id_].text, "merged before") for id_ in others[:OTHERS_SHOWN])
    listed = "\n".join(f"- {name}" for name in files)
    return (
        "The works of two agents conflict with each other. Your working directory holds both, merged as far as git "
        "could; where it could not, the files hold conflict markers with both sides and what they started from. Bring "
        "them together so that the intentions of both are kept: do not drop one side, and change nothing else.\n\n"
        f"# Files in conflict\n{listed}\n\n{description.strip()}\n\n"
        f"# The sides\n{_side(subtask, '', 'this subtask')}\n\n{shown or _unknown_side()}\n\n"
        "You are done when no file holds a conflict marker, and what each side was asked for works."
    )


def _side(subtask: Subtask, text: str, label: str) -> str:
    said = f"\nIts agent reported: {_cut(text, RESULT_CHARACTERS)}" if text.strip() else ""
    return f"## {label}: {subtask.name}\nIts task was: {_cut(subtask.instruction, INSTRUCTION_CHARACTERS)}{said}"


def _unknown_side() -> str:
    return "## merged before\nWhat was merged before it, by several subtasks or by a merge of their works."


def _cut(text: str, characters: int) -> str:
    text = text.strip()
    return text if len(text) <= characters else f"{text[:characters]} [cut]"
