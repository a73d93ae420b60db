"""Whether a branch that is tried again goes on with the earlier attempt, or starts from nothing (S4). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmq.agent.answers import Progress, classify
from swarmq.models.branch import Exit, Outcome
from swarmq.models.messages import Role
from swarmq.models.plan import Kind
from swarmq.models.transcript import Entry

REFUSED_STATUSES = {400, 413, 422}
"""The endpoint refused what it was sent, after answers to the same prompts: it is the conversation that it refuses."""


@dataclass(frozen=True)
class Verdict:
    """``reason`` goes on from "it continues: " or "it starts anew: "."""

    continues: bool
    reason: str


@dataclass(frozen=True)
class Circumstances:
    """What a conversation was had under. ``dependencies`` are result texts by name, ``base_tree`` the files' hash."""

    kind: Kind
    instruction: str
    dependencies: Mapping[str, str]
    base_tree: str | None


def go_on(reason: str) -> Verdict:
    return Verdict(True, reason)


def start_anew(reason: str) -> Verdict:
    return Verdict(False, reason)


_ENDS = {
    # Also of a conflict: both works are finished, and in its worktree the agent would see nothing of the other one.
    Exit.COMPLETED: start_anew("its work was finished"),
    Exit.MAX_STEPS: go_on("its steps were used up, and count anew"),
    Exit.TIMED_OUT: go_on("its time was over, and counts anew"),
    Exit.BUDGET_EXHAUSTED: go_on("a limit of the swarm ended it"),
    Exit.CANCELLED: go_on("it was cancelled"),
}


def may_continue(outcome: Outcome, entries: Sequence[Entry], earlier: Circumstances, now: Circumstances) -> Verdict:
    """Judge an ended attempt with its transcript. What it was told and what it saw must still hold."""
    if earlier.kind is not now.kind:
        return start_anew(f"the subtask is of another kind: {now.kind.value}, not {earlier.kind.value}")
    if earlier.instruction != now.instruction:
        return start_anew("the instruction is another one")
    if dict(earlier.dependencies) != dict(now.dependencies):
        return start_anew("the results of its dependencies are other ones")
    if now.base_tree is not None and earlier.base_tree is None:
        return start_anew("the files that it started from are gone")
    if earlier.base_tree != now.base_tree:
        return start_anew("it starts from other files than before")
    return after_end(outcome, entries)


def after_end(outcome: Outcome, entries: Sequence[Entry]) -> Verdict:
    """Judge by the end alone, as far as that can be known before the branch runs."""
    if outcome.exit is not Exit.FAILED:
        return _ENDS[outcome.exit]
    if outcome.model_status in REFUSED_STATUSES:
        return start_anew(f"the endpoint refused the conversation (HTTP {outcome.model_status})")
    given_up = _given_up(entries)
    if given_up is not None:
        return start_anew(given_up)
    if outcome.fault == "agent":
        return go_on("the agent is told what its work lacks")
    return go_on("the failure was not the agent's")


def _given_up(entries: Sequence[Entry]) -> str | None:
    """Why the loop could not go on after the last answer: a refusal, or answers that were cut or empty in a row."""
    progress = Progress()
    for entry in entries:
        progress.saw(entry)
    if not entries or entries[-1].message.role is not Role.ASSISTANT:
        return None
    last = entries[-1]
    return progress.given_up(last.message, classify(last.message, last.finish))
