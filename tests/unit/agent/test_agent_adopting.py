"""A run that takes over an earlier swarm's conversation: sendable wherever that broke off, and paid for by nobody."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from agent_fakes import (
    BRANCH,
    OPENING,
    Crash,
    FakeCheckpoint,
    FakeJournal,
    FakeModel,
    FakeTime,
    FakeToolbox,
    StatelessModel,
    Verdict,
    assignment,
    call,
    says,
)
from hypothesis import given
from hypothesis import strategies as st

from swarmq.agent.adopting import adopt, answers_in
from swarmq.agent.answers import sendable
from swarmq.agent.assignment import Assignment, LoopResult
from swarmq.agent.loop import run_agent
from swarmq.agent.prompts import retry_note
from swarmq.models.branch import Exit
from swarmq.models.messages import Completion, FinishReason, Message, Role, Usage, system, user
from swarmq.models.options import SwarmOptions
from swarmq.models.transcript import Entry

CUT = FinishReason.LENGTH
SOURCE = "earlier000/parse"
NOTE = user("[another try]")
NEW_OPENING = (system("You are in a new place."), user("Do it."))


def entries_after(turns: list[Completion], writes: int) -> list[Entry]:
    journal = FakeJournal(crash_after=writes)
    with contextlib.suppress(Crash):
        asyncio.run(
            run_agent(
                assignment(), StatelessModel(*turns), FakeToolbox(), journal, FakeCheckpoint(), FakeTime().clock()
            )
        )
    return journal.entries


def try_again(model: FakeModel, entries: list[Entry], journal: FakeJournal, **options: object) -> LoopResult:
    parsed = SwarmOptions.parse(options)
    taken = adopt(entries, SOURCE, parsed.max_output_tokens)
    given_ = Assignment(BRANCH, parsed, NEW_OPENING, (), NOTE if taken else None, taken)
    return asyncio.run(run_agent(given_, model, FakeToolbox(), journal, FakeCheckpoint(), FakeTime().clock()))


def test_the_conversation_goes_on_and_only_what_is_new_is_counted() -> None:
    turns = [says("Now.", call("edit", "a")), says("", call("edit", "b")), says("Done.")]
    entries = entries_after(turns, writes=5)
    model, journal = StatelessModel(*turns), FakeJournal()
    result = try_again(model, entries, journal)
    assert (result.exit, result.text, result.steps, result.tool_calls, model.asked) == (
        Exit.COMPLETED,
        "Done.",
        1,
        0,
        1,
    )
    assert result.usage == turns[2].usage
    first = journal.writes[0]
    assert (first.steps, first.tool_calls, first.usage, first.reserves) == (0, 0, Usage(), True)
    assert tuple(entry.message for entry in first.entries[:2]) == NEW_OPENING
    assert [entry.adopted_from for entry in first.entries] == [None, None, *[SOURCE] * 4, None]
    assert [entry.message for entry in first.entries[2:6]] == [entry.message for entry in entries[2:]]
    assert first.entries[3 - 1].usage == turns[0].usage, "what was paid stays visible"
    assert first.entries[-1].message == NOTE
    assert journal.entries[-1].step == 3, "steps are numbered through the conversation"
    assert [message.role for message in model.conversations[0].messages[:2]] == [Role.SYSTEM, Role.USER]
    assert model.conversations[0].messages[0] == NEW_OPENING[0]


def test_steps_and_time_count_anew() -> None:
    turns = [says("", call("edit", "a")), says("", call("edit", "b")), says("Done.")]
    entries = [entry.model_copy(update={"seconds": 5000.0}) for entry in entries_after(turns, writes=5)]
    result = try_again(StatelessModel(*turns), entries, FakeJournal(), max_steps_per_subagent=1)
    assert (result.exit, result.steps) == (Exit.COMPLETED, 1)
    turns.insert(2, says("", call("edit", "c")))
    result = try_again(StatelessModel(*turns), entries, FakeJournal(), max_steps_per_subagent=1)
    assert (result.exit, result.steps, result.limit) == (Exit.MAX_STEPS, 1, "max_steps_per_subagent")


def test_calls_that_were_open_are_answered_and_not_run() -> None:
    turns = [says("Now.", call("edit", "a"), call("read", "b")), says("Done.")]
    entries = entries_after(turns, writes=2)
    journal = FakeJournal()
    result = try_again(StatelessModel(*turns), entries, journal)
    assert result.exit is Exit.COMPLETED
    results = journal.writes[0].entries[3].message.tool_results
    assert [(one.call_id, one.is_error) for one in results] == [("a", True), ("b", True)]
    assert "may or may not" in results[0].content
    assert result.tool_calls == 0


def test_a_final_answer_is_followed_by_the_note() -> None:
    turns = [says("Nothing to do."), says("Now it is done.")]
    entries = entries_after(turns[:1], writes=2)
    model = StatelessModel(*turns)
    result = try_again(model, entries, FakeJournal())
    assert (result.exit, result.text) == (Exit.COMPLETED, "Now it is done.")
    assert model.conversations[0].messages[2:4] == [turns[0].message, NOTE]


@pytest.mark.parametrize("cut", [says("Half", finish=CUT), says("", call("edit"), finish=CUT), says("")])
def test_an_answer_that_needs_a_word_gets_it_before_the_note(cut: Completion) -> None:
    entries = entries_after([cut, says("unused")], writes=2)
    model, journal = FakeModel(says(" and half.")), FakeJournal()
    result = try_again(model, entries, journal)
    roles = [entry.message.role for entry in journal.writes[0].entries[2:]]
    closing = Role.TOOL if cut.message.tool_calls else Role.USER
    assert roles == [Role.ASSISTANT, closing, Role.USER]
    assert result.text == ("Half and half." if cut.message.text else " and half.")


def test_nothing_is_taken_over_where_the_model_has_not_answered() -> None:
    assert adopt([], SOURCE, 1) == ()
    entries = [Entry(step=0, at=0, message=message) for message in OPENING]
    assert adopt(entries, SOURCE, 1) == ()
    journal = FakeJournal()
    try_again(FakeModel(says("Done.")), entries, journal)
    assert [entry.message for entry in journal.writes[0].entries] == list(NEW_OPENING)


def test_a_limit_of_the_new_swarm_ends_it_with_the_conversation_kept() -> None:
    turns = [says("", call("edit", "a")), says("Done.")]
    journal = FakeJournal(verdicts={1: Verdict(limit="max_total_steps")})
    result = try_again(StatelessModel(*turns), entries_after(turns, writes=3), journal)
    assert (result.exit, result.limit, result.steps) == (Exit.BUDGET_EXHAUSTED, "max_total_steps", 0)
    assert answers_in(journal.entries) == 1


def test_a_retry_of_a_retry_names_the_swarm_that_it_follows() -> None:
    turns = [says("", call("edit", "a")), says("Done.")]
    journal = FakeJournal(crash_after=1)
    with contextlib.suppress(Crash):
        try_again(StatelessModel(*turns), entries_after(turns, writes=3), journal)
    again = adopt(journal.entries, "second0000/parse", 100)
    assert {entry.adopted_from for entry in again} == {"second0000/parse"}
    assert NOTE in [entry.message for entry in again]
    assert answers_in(again) == 1


tool_turns = st.builds(
    lambda names, cut: says("t", *(call(name, f"c{i}") for i, name in enumerate(names)), finish=CUT if cut else None),
    st.lists(st.sampled_from(["read", "edit"]), min_size=1, max_size=3),
    st.booleans(),
)
turns_of_runs = st.lists(st.one_of(tool_turns, st.just(says("part ", finish=CUT)), st.just(says(""))), max_size=5)


def open_calls(messages: list[Message]) -> bool:
    """Whether some call is not answered by the very next message, or two answers meet: what endpoints refuse."""
    sent = [message for message in messages if sendable(message)]
    for message, following in zip(sent, [*sent[1:], user("end")], strict=True):
        wanted = [one.id for one in message.tool_calls]
        if wanted and [one.call_id for one in following.tool_results] != wanted:
            return True
        if message.role is Role.ASSISTANT and following.role is Role.ASSISTANT:
            return True
    return False


@given(turns_of_runs, st.integers(0, 12))
def test_wherever_it_broke_off_the_conversation_can_be_sent(turns: list[Completion], writes: int) -> None:
    entries = entries_after([*turns, says("The end.")], writes)
    taken = adopt(entries, SOURCE, 100)
    assert not open_calls([*NEW_OPENING, *(entry.message for entry in taken), NOTE])
    assert answers_in(taken) == answers_in(entries)
    assert all(entry.adopted_from == SOURCE for entry in taken)
    assert all(Entry.decode(entry.encode(), 0) == entry for entry in taken)


def test_the_note_says_why_it_ended_and_what_is_there() -> None:
    saved = retry_note(Path("/new/place"), "the model call failed: HTTP 401.", saved=True).text
    assert "HTTP 401. The working directory is now /new/place" in saved
    assert "as that attempt left them" in saved
    assert "nothing that it wrote was kept" in retry_note(Path("/p"), "x", saved=False).text
    assert "directory" not in retry_note(None, "x", saved=False).text


@given(turns_of_runs, st.integers(2, 9), st.integers(1, 6))
def test_a_retry_that_is_lost_resumes_as_any_other_run(turns: list[Completion], writes: int, crash_after: int) -> None:
    turns = [*turns, says("The end."), says("The end, once more.")]
    entries = entries_after(turns, writes)
    undisturbed = FakeJournal()
    expected = try_again(StatelessModel(*turns), entries, undisturbed)
    lost = FakeJournal(crash_after=crash_after)
    try:
        try_again(StatelessModel(*turns), entries, lost)
    except Crash:
        given_ = assignment(lost.entries, user("[moved]"))
        after = FakeJournal()
        run = run_agent(given_, StatelessModel(*turns), FakeToolbox(), after, FakeCheckpoint(), FakeTime().clock())
        result = asyncio.run(run)
        assert (result.exit, result.text, result.steps) == (expected.exit, expected.text, expected.steps)
        assert (result.usage, result.tool_calls) == (expected.usage, expected.tool_calls)
        steps = [e.step for e in (*lost.entries, *after.entries) if e.message.role is Role.ASSISTANT]
        assert steps == list(range(1, len(steps) + 1))
