"""The conversation of an earlier swarm's branch, as a branch that tries again takes it over. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.agent.answers import Answer, classify, cut_short, follow_up
from swarmq.models.messages import Message, Role
from swarmq.models.transcript import Entry

PROMPTS = 2
"""A transcript begins with the system and the user prompt; the new branch has its own."""


def answers_in(entries: Sequence[Entry]) -> int:
    """How often the model has answered, whoever paid for it."""
    return sum(entry.message.role is Role.ASSISTANT for entry in entries)


def adopt(entries: Sequence[Entry], source: str, max_output_tokens: int) -> tuple[Entry, ...]:
    """The entries behind the prompts, marked as those of ``source`` (swarm/branch); empty where nothing was answered.

    Calls that were left open are answered, and an answer that was cut or empty gets its follow-up, so that a user's
    message may come next.
    """
    if not answers_in(entries):
        return ()
    taken = [entry.model_copy(update={"adopted_from": source}) for entry in entries[PROMPTS:]]
    last = taken[-1]
    reply = _closing(last, max_output_tokens)
    if reply is not None:
        taken.append(Entry(step=last.step, at=last.at, message=reply, adopted_from=source))
    return tuple(taken)


def _closing(last: Entry, max_output_tokens: int) -> Message | None:
    """What has to follow the last entry before anything else can."""
    if last.message.role is not Role.ASSISTANT:
        return None
    match classify(last.message, last.finish):
        case Answer.CALLS:
            return cut_short(last.message)
        case Answer.CUT | Answer.CUT_CALLS | Answer.EMPTY as answer:
            return follow_up(last.message, answer, max_output_tokens)
        case _:
            return None
