"""Which ends a retried branch goes on from."""

from __future__ import annotations

from typing import Any

import pytest

from swarmq.agent.answers import MAX_CONTINUATIONS, MAX_EMPTY_ANSWERS
from swarmq.models.branch import Exit, Outcome
from swarmq.models.messages import FinishReason, Message, Role, Text, ToolCall, system, user
from swarmq.models.plan import Kind
from swarmq.models.transcript import Entry
from swarmq.orchestrator.continuing import Circumstances, after_end, may_continue

BEFORE = Circumstances(Kind.EDIT, "mend it", {"first": "done"}, "tree")


def says(text: str = "", finish: FinishReason = FinishReason.STOP, *calls: str) -> Entry:
    texts = (Text(text=text),) if text else ()
    parts = (*texts, *(ToolCall(id=name, name=name, arguments="{}") for name in calls))
    return Entry(step=1, at=1, message=Message(role=Role.ASSISTANT, parts=parts), finish=finish)


def told(*answers: Entry) -> list[Entry]:
    """A transcript in which each answer but the last got a word back."""
    entries = [Entry(step=0, at=0, message=system("you are")), Entry(step=0, at=0, message=user("do"))]
    for answer in answers:
        entries += [answer, Entry(step=1, at=1, message=user("go on"))]
    return entries[:-1] if answers else entries


WORKED = told(says("", FinishReason.TOOL_CALLS, "edit"))


def failed(**values: Any) -> Outcome:
    return Outcome(exit=Exit.FAILED, **values)


GOES_ON = [
    pytest.param(Outcome(exit=Exit.MAX_STEPS), WORKED, "steps were used up", id="max_steps"),
    pytest.param(Outcome(exit=Exit.TIMED_OUT), WORKED, "time was over", id="timed_out"),
    pytest.param(Outcome(exit=Exit.BUDGET_EXHAUSTED), WORKED, "limit of the swarm", id="budget"),
    pytest.param(Outcome(exit=Exit.CANCELLED), WORKED, "cancelled", id="cancelled"),
    pytest.param(failed(fault="infrastructure", model_status=401), WORKED, "not the agent's", id="bad key"),
    pytest.param(failed(fault="infrastructure", model_status=429), WORKED, "not the agent's", id="quota"),
    pytest.param(failed(fault="infrastructure", model_status=503), WORKED, "not the agent's", id="server error"),
    pytest.param(failed(fault="infrastructure", error="disk full"), WORKED, "not the agent's", id="disk, workers"),
    pytest.param(failed(fault="agent"), told(says("nothing to do")), "what its work lacks", id="nothing changed"),
    pytest.param(failed(fault="infrastructure"), told(says("done")), "not the agent's", id="commit refused"),
    pytest.param(
        Outcome(exit=Exit.BUDGET_EXHAUSTED), told(says("half", FinishReason.LENGTH)), "limit", id="cut, then budget"
    ),
]
STARTS_ANEW = [
    pytest.param(Outcome(exit=Exit.COMPLETED, commit="c" * 40), told(says("done")), "finished", id="conflict"),
    pytest.param(failed(fault="infrastructure", model_status=400), WORKED, "HTTP 400", id="refused request"),
    pytest.param(failed(fault="infrastructure", model_status=413), WORKED, "HTTP 413", id="too large"),
    pytest.param(failed(fault="infrastructure", model_status=422), WORKED, "HTTP 422", id="unprocessable"),
    pytest.param(failed(fault="agent"), told(says("I will not", FinishReason.REFUSAL)), "refused", id="refusal"),
    pytest.param(
        failed(fault="agent"),
        told(*[says("part", FinishReason.LENGTH)] * (MAX_CONTINUATIONS + 1)),
        "cut off",
        id="cut again and again",
    ),
    pytest.param(failed(fault="agent"), told(*[says()] * (MAX_EMPTY_ANSWERS + 1)), "empty answers", id="empty"),
]


@pytest.mark.parametrize(("outcome", "entries", "reason"), GOES_ON)
def test_it_goes_on(outcome: Outcome, entries: list[Entry], reason: str) -> None:
    verdict = may_continue(outcome, entries, BEFORE, BEFORE)
    assert verdict.continues, verdict.reason
    assert reason in verdict.reason
    assert after_end(outcome, entries) == verdict


@pytest.mark.parametrize(("outcome", "entries", "reason"), STARTS_ANEW)
def test_it_starts_anew(outcome: Outcome, entries: list[Entry], reason: str) -> None:
    verdict = may_continue(outcome, entries, BEFORE, BEFORE)
    assert not verdict.continues
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("earlier", "now", "reason"),
    [
        (BEFORE, Circumstances(Kind.VERIFY, "mend it", {"first": "done"}, "tree"), "another kind: verify, not edit"),
        (BEFORE, Circumstances(Kind.EDIT, "mend all", {"first": "done"}, "tree"), "instruction"),
        (BEFORE, Circumstances(Kind.EDIT, "mend it", {"first": "else"}, "tree"), "results of its dependencies"),
        (BEFORE, Circumstances(Kind.EDIT, "mend it", {}, "tree"), "results of its dependencies"),
        (BEFORE, Circumstances(Kind.EDIT, "mend it", {"first": "done"}, "other"), "other files"),
        (BEFORE, Circumstances(Kind.EDIT, "mend it", {"first": "done"}, None), "other files"),
        (Circumstances(Kind.EDIT, "mend it", {"first": "done"}, None), BEFORE, "are gone"),
    ],
)
def test_what_it_was_told_and_saw_must_still_hold(earlier: Circumstances, now: Circumstances, reason: str) -> None:
    verdict = may_continue(Outcome(exit=Exit.MAX_STEPS), WORKED, earlier, now)
    assert not verdict.continues
    assert reason in verdict.reason


def test_every_exit_is_judged() -> None:
    for exit_ in Exit:
        assert after_end(Outcome(exit=exit_), WORKED).reason


def test_without_a_repository_there_are_no_files_to_differ() -> None:
    bare = Circumstances(Kind.READ, "look", {}, None)
    assert may_continue(Outcome(exit=Exit.TIMED_OUT), WORKED, bare, bare).continues
