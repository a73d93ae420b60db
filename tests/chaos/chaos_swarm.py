"""The swarm that every fault meets: 20 branches of three kinds in 3 stages, 10 model calls each, one plan call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swarmq.testing import Script

TASK = "Split the work of the chaos suite"
MENDED = "Do work that does not pass at first."
FAST, SLOW = "Go the fast way.", "Go the slow way."
ONE_SIDE, OTHER_SIDE = "Write down one word.", "Write down the other word."
RESOLVED = "one other"
ENDLESS_MS = 60_000
"""What nobody waits for: the call is aborted."""
STEPS = 10
LINES = 6
SLOW_TOOL_STEP, SLOW_TOOL_SECONDS = 4, 0.3
SLOW_MODEL_STEP, SLOW_MODEL_MS = 6, 300
LATENCY_MS = 20
STAGES = (("edit", 4, "verify", 2, "read", 2), ("edit", 3, "verify", 2, "read", 2), ("edit", 2, "verify", 1, "read", 2))


@dataclass(frozen=True)
class Part:
    """One subtask of the plan."""

    name: str
    kind: str
    stage: int
    needs: tuple[str, ...]

    @property
    def instruction(self) -> str:
        return f"Do the work of {self.name}."

    @property
    def text(self) -> str:
        return f"The work of {self.name} is done."


def _parts() -> tuple[Part, ...]:
    parts: list[Part] = []
    before: list[str] = []
    for stage, counts in enumerate(STAGES):
        names: list[str] = []
        for kind, count in zip(counts[::2], counts[1::2], strict=True):
            for _ in range(int(count)):
                name = f"{kind}-{len(parts) + 1:02}"
                needs = (before[len(names) % len(before)],) if before else ()
                parts.append(Part(name, str(kind), stage, needs))
                names.append(name)
        before = names
    return tuple(parts)


PARTS = _parts()
CALLS = {part.name: STEPS for part in PARTS} | {"plan": 1}
MATCHES = {part.instruction: part.name for part in PARTS} | {TASK: "plan"}


def command(part: Part, step: int) -> str:
    """Tells the ledger (outside of every worktree) that it ran, then writes the file as it is to be after this step.

    The last four steps write the same: that one was interrupted leaves no trace in the result, as with an agent that
    checks what it did, and nor does it where three deaths of one swarm interrupted three of them.
    """
    lines = " ".join(str(line) for line in range(1, min(step, LINES) + 1))
    slow = f"sleep {SLOW_TOOL_SECONDS}; " if step == SLOW_TOOL_STEP else ""
    return f"echo {step} >> $LEDGER/{part.name}; {slow}printf '%s\\n' {lines} > {part.name}.txt"


def expected_files() -> dict[str, str]:
    """What the branches that edit leave, by file."""
    lines = "".join(f"{line}\n" for line in range(1, LINES + 1))
    return {f"{part.name}.txt": lines for part in PARTS if part.kind == "edit"}


LOSER, OTHER = "Leave it broken.", "Take your time over it."
LOSING: list[dict[str, Any]] = [
    {
        "match": LOSER,
        "turns": [
            {"tool_calls": [{"name": "bash", "arguments": {"command": "echo 'def f(:' > broken.py"}}]},
            {"tool_calls": [{"name": "read", "arguments": {"file_path": "broken.py"}}]},
            {"text": "It will do.", "latency_ms": 60_000},
        ],
    },
    {
        "match": OTHER,
        "turns": [
            {"tool_calls": [{"name": "bash", "arguments": {"command": "echo 'x = 1' > good.py"}}]},
            {"text": "It is done.", "latency_ms": 9_000},
        ],
    },
]
"""Two branches, of which the collapse controller stops the first."""


def script() -> Script:
    plan = [
        {"name": part.name, "instruction": part.instruction, "kind": part.kind, "dependencies": list(part.needs)}
        for part in PARTS
    ]
    conversations: list[dict[str, Any]] = [
        {"match": part.instruction, "turns": [*(_turn(part, step) for step in range(1, STEPS)), {"text": part.text}]}
        for part in PARTS
    ]
    conversations += LOSING
    mended = [*(turn for file in ("first", "second") for turn in _written(file))]
    conversations.append({"match": MENDED, "turns": mended})
    conversations += [
        {"match": "The works of two agents conflict", "turns": _written("both", RESOLVED)},
        {"match": FAST, "turns": _written("first")},
        {"match": SLOW, "turns": [{"text": "Never said.", "latency_ms": ENDLESS_MS}]},
        {"match": ONE_SIDE, "turns": _written("both", "one")},
        {"match": OTHER_SIDE, "turns": _written("both", "other")},
    ]
    planner = {"match": TASK, "turns": [{"tool_calls": [{"name": "submit_plan", "arguments": {"subtasks": plan}}]}]}
    return Script.model_validate({"latency_ms": LATENCY_MS, "conversations": [*conversations, planner]})


def _written(file: str, content: str = "") -> list[dict[str, Any]]:
    command = f"printf '{content or file}' > {file}.txt"
    call = {"name": "bash", "arguments": {"command": command}}
    return [{"tool_calls": [call]}, {"text": f"The {file} file is written."}]


def _turn(part: Part, step: int) -> dict[str, Any]:
    if part.kind == "read":
        call = {"name": "read", "arguments": {"file_path": "shared.txt", "offset": step}}
    else:
        call = {"name": "bash", "arguments": {"command": command(part, step)}}
    slow = {"latency_ms": SLOW_MODEL_MS} if step == SLOW_MODEL_STEP else {}
    return {"tool_calls": [call], **slow}
