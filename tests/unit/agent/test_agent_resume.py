"""A run that is cut anywhere and resumed ends as if nothing had happened; nothing recorded is paid for again."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from agent_fakes import (
    OPENING,
    Crash,
    FakeCheckpoint,
    FakeJournal,
    FakeModel,
    FakeTime,
    FakeToolbox,
    StatelessModel,
    assignment,
    call,
    says,
)
from hypothesis import given
from hypothesis import strategies as st

from swarmq.agent.assignment import LoopResult
from swarmq.agent.loop import run_agent
from swarmq.models.branch import Exit
from swarmq.models.messages import Completion, FinishReason, Message, Role, system, user
from swarmq.models.transcript import Entry

CUT = FinishReason.LENGTH
NOTE = user("[moved]")


async def go_on(model: FakeModel, toolbox: FakeToolbox, entries: list[Entry], journal: FakeJournal) -> LoopResult:
    return await run_agent(
        assignment(entries, NOTE if entries else None), model, toolbox, journal, FakeCheckpoint(), FakeTime().clock()
    )


def entries_after(turns: list[Completion], writes: int) -> list[Entry]:
    """The transcript of a run that was lost after so many writes."""
    journal = FakeJournal(crash_after=writes)
    with contextlib.suppress(Crash):
        asyncio.run(go_on(StatelessModel(*turns), FakeToolbox(), [], journal))
    return journal.entries


def test_calls_whose_worker_was_lost_are_not_run_again() -> None:
    turns = [says("Now.", call("edit", "a"), call("read", "b")), says("Done.")]
    entries = entries_after(turns, writes=2)
    assert entries[-1].message.role is Role.ASSISTANT
    model, toolbox, journal = StatelessModel(*turns), FakeToolbox(), FakeJournal()
    result = asyncio.run(go_on(model, toolbox, entries, journal))
    assert (result.exit, result.steps, result.tool_calls, toolbox.ran) == (Exit.COMPLETED, 2, 2, [])
    results = journal.entries[0].message.tool_results
    assert [(one.call_id, one.is_error) for one in results] == [("a", True), ("b", True)]
    assert "worker" in results[0].content
    assert "may or may not" in results[0].content
    assert journal.entries[1].message == NOTE
    assert journal.writes[0].reserves  # in one write with the note, and with the step that follows


def test_a_recorded_answer_is_not_asked_for_again() -> None:
    turns = [says("", call("read")), says("Done.")]
    entries = entries_after(turns, writes=4)
    model, journal = StatelessModel(*turns), FakeJournal()
    result = asyncio.run(go_on(model, FakeToolbox(), entries, journal))
    assert (result.exit, result.text, result.steps, model.asked) == (Exit.COMPLETED, "Done.", 2, 0)
    assert result.usage.input_tokens == 200
    assert journal.writes == []


def test_after_recorded_results_the_run_goes_on_with_the_next_step() -> None:
    turns = [says("", call("edit")), says("Done.")]
    entries = entries_after(turns, writes=3)
    model, toolbox, journal = StatelessModel(*turns), FakeToolbox(), FakeJournal()
    result = asyncio.run(go_on(model, toolbox, entries, journal))
    assert (result.exit, result.steps, result.tool_calls, toolbox.ran, model.asked) == (Exit.COMPLETED, 2, 1, [], 1)
    assert [entry.message.role for entry in journal.entries] == [Role.USER, Role.ASSISTANT]
    assert journal.writes[0].reserves  # again: what the lost holder has reserved may have been given back


def test_the_prompts_are_those_of_the_new_place() -> None:
    turns = [says("", call("read")), says("Done.")]
    entries = entries_after(turns, writes=3)
    moved = [entries[0].model_copy(update={"message": system("You are in the old place.")}), *entries[1:]]
    model = StatelessModel(*turns)
    asyncio.run(go_on(model, FakeToolbox(), moved, FakeJournal()))
    assert tuple(model.conversations[0].messages[:2]) == OPENING
    assert model.conversations[0].messages[2:4] == [entry.message for entry in entries[2:4]]


def test_earlier_holders_time_counts() -> None:
    turns = [says("", call("read")), says("Done.")]
    entries = entries_after(turns, writes=3)
    long_ago = [entry.model_copy(update={"seconds": 2000.0}) for entry in entries]
    result = asyncio.run(go_on(StatelessModel(*turns), FakeToolbox(), long_ago, FakeJournal()))
    assert (result.exit, result.limit) == (Exit.TIMED_OUT, "subagent_timeout_seconds")


@pytest.mark.parametrize("finish", [CUT, FinishReason.STOP])
def test_an_answer_that_needs_a_word_gets_it_after_resuming(finish: FinishReason) -> None:
    turns = [says("Half" if finish is CUT else "", finish=finish), says(" and half.")]
    entries = entries_after(turns, writes=2)
    journal = FakeJournal()
    result = asyncio.run(go_on(FakeModel(turns[1]), FakeToolbox(), entries, journal))
    assert result.exit is Exit.COMPLETED
    assert result.text.endswith(" and half.")
    assert [entry.message.role for entry in journal.entries] == [Role.USER, Role.USER, Role.ASSISTANT]


tool_turns = st.builds(
    lambda names, cut: says("t", *(call(name, f"c{i}") for i, name in enumerate(names)), finish=CUT if cut else None),
    st.lists(st.sampled_from(["read", "edit"]), min_size=1, max_size=3),
    st.booleans(),
)
turns_of_runs = st.lists(st.one_of(tool_turns, st.just(says("part ", finish=CUT))), max_size=6)


def shape(messages: list[Message]) -> list[tuple[Role, int]]:
    """Roles and numbers of calls and results; the note that a resumed branch gets is left out."""
    return [
        (message.role, len(message.tool_calls) + len(message.tool_results)) for message in messages if message != NOTE
    ]


@given(turns_of_runs, st.lists(st.integers(1, 5), max_size=4))
def test_a_run_that_is_lost_again_and_again_ends_as_one_that_is_not(turns: list[Completion], losses: list[int]) -> None:
    turns = [*turns, says("The end.")]
    undisturbed = FakeJournal()
    expected = asyncio.run(go_on(StatelessModel(*turns), FakeToolbox(), [], undisturbed))
    entries: list[Entry] = []
    asked = 0
    for crash_after in [*losses, None]:
        journal, model = FakeJournal(crash_after=crash_after), StatelessModel(*turns)
        try:
            result = asyncio.run(go_on(model, FakeToolbox(), entries, journal))
        except Crash:
            asked += sum(entry.message.role is Role.ASSISTANT for entry in journal.entries)
            entries += journal.entries
        else:
            asked += model.asked
            entries += journal.entries
            break
    assert (result.exit, result.text, result.steps) == (expected.exit, expected.text, expected.steps)
    assert (result.usage, result.tool_calls) == (expected.usage, expected.tool_calls)
    assert asked == expected.steps
    assert shape([entry.message for entry in entries]) == shape([entry.message for entry in undisturbed.entries])
