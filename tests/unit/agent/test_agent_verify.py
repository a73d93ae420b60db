"""An agent that says it is done is believed when its work passes verify; else it is told, so many times and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from agent_fakes import (
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

from swarmq.agent.assignment import LoopResult
from swarmq.agent.finishing import sent_back_text
from swarmq.agent.loop import run_agent
from swarmq.models.branch import Exit
from swarmq.models.events import EventType
from swarmq.models.messages import Role, user
from swarmq.models.transcript import Entry
from swarmq.models.verify import VerifyReport

FAILED = VerifyReport(passed=False, command="pytest -q", exit_code=1, seconds=2.0, output="2 failed\n")
PASSED = VerifyReport(passed=True, command="pytest -q", exit_code=0, seconds=2.0)
NOTE = user("[moved]")


class Reports:
    """Gives its reports in turn, the last one for ever; takes ``seconds`` each time."""

    def __init__(self, *reports: VerifyReport | None, time: FakeTime | None = None, seconds: float = 0.0) -> None:
        self.reports, self.time, self.seconds, self.asked = list(reports), time, seconds, 0

    async def __call__(self) -> VerifyReport | None:
        self.asked += 1
        if self.time is not None:
            self.time.seconds += self.seconds
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]


async def run(
    model: FakeModel,
    verify: Reports,
    journal: FakeJournal | None = None,
    entries: Sequence[Entry] = (),
    time: FakeTime | None = None,
    **options: Any,
) -> LoopResult:
    given = assignment(entries, NOTE if entries else None, **options)
    clock = (time or FakeTime()).clock()
    return await run_agent(
        given, model, FakeToolbox(), journal or FakeJournal(), FakeCheckpoint(), clock, verify=verify
    )


async def test_work_that_passes_is_done() -> None:
    verify, journal = Reports(PASSED), FakeJournal()
    result = await run(FakeModel(says("", call("edit")), says("Done.")), verify, journal)
    assert (result.exit, result.text, verify.asked) == (Exit.COMPLETED, "Done.", 1)
    assert [event.type for event in result.events] == [EventType.VERIFY_PASSED]
    assert [entry.verify for entry in journal.entries] == [None] * 5


async def test_nothing_to_verify_is_done_as_before() -> None:
    result = await run(FakeModel(says("Done.")), Reports(None))
    assert (result.exit, result.events) == (Exit.COMPLETED, ())


async def test_a_failure_goes_back_to_the_agent_with_what_was_printed() -> None:
    verify, journal = Reports(FAILED, PASSED), FakeJournal()
    model = FakeModel(says("Done."), says("", call("edit")), says("Done now."))
    result = await run(model, verify, journal, verify_rounds=2)
    assert (result.exit, result.text, result.steps, verify.asked) == (Exit.COMPLETED, "Done now.", 3, 2)
    told = journal.writes[2]
    assert told.reserves, "the next step is taken with the same write"
    assert [event.type for event in told.events] == [EventType.VERIFY_FAILED]
    assert (told.events[0].data["round"], told.events[0].data["rounds"]) == (1, 2)
    (entry,) = told.entries
    assert (entry.message.role, entry.verify) == (Role.USER, FAILED)
    for said in ("'pytest -q' ended with exit code 1", "2 failed", "round 1 of 2"):
        assert said in entry.message.text
    assert model.conversations[0].messages[3] == entry.message


async def test_the_rounds_are_used_up() -> None:
    verify = Reports(FAILED)
    result = await run(FakeModel(*[says("Done.")] * 3), verify, verify_rounds=2)
    assert (result.exit, result.fault, result.limit) == (Exit.FAILED, "agent", "verify_rounds")
    assert (verify.asked, result.steps) == (3, 3)
    assert result.error == (
        "verify did not pass, also after the agent was told 2 times: 'pytest -q' ended with exit code 1"
    )
    assert [event.type for event in result.events] == [EventType.VERIFY_FAILED, EventType.BRANCH_ERROR]
    assert "round" not in result.events[0].data


async def test_without_steps_left_the_agent_is_not_asked_again() -> None:
    result = await run(FakeModel(says("Done.")), Reports(FAILED), max_steps_per_subagent=1)
    assert (result.exit, result.limit) == (Exit.MAX_STEPS, "max_steps_per_subagent")


async def test_verifying_counts_against_no_time_out_of_the_agent() -> None:
    time = FakeTime()
    verify = Reports(FAILED, FAILED, PASSED, time=time, seconds=5000.0)
    result = await run(FakeModel(*[says("Done.")] * 3), verify, time=time)
    assert result.exit is Exit.COMPLETED
    assert time.seconds == 16_000


TURNS = (says("One."), says("", call("edit", "c1")), says("Two."), says("Three."))


async def undisturbed() -> FakeJournal:
    journal = FakeJournal()
    await run(StatelessModel(*TURNS), Reports(FAILED, FAILED, PASSED), journal, verify_rounds=2)
    return journal


@pytest.mark.parametrize("writes", range(1, 8))
@pytest.mark.parametrize("reports", [(FAILED, FAILED, PASSED), (FAILED,)], ids=["passes", "never passes"])
async def test_a_run_that_is_cut_anywhere_decides_the_same(writes: int, reports: tuple[VerifyReport, ...]) -> None:
    whole = FakeJournal()
    expected = await run(StatelessModel(*TURNS), Reports(*reports), whole, verify_rounds=2)
    cut = FakeJournal(crash_after=writes)
    verify, left = Reports(*reports), list(reports)
    try:
        await run(StatelessModel(*TURNS), verify, cut, verify_rounds=2)
    except Crash:
        told = sum(entry.verify is not None for entry in cut.entries)
        left = left[min(told, len(left) - 1) :]  # a verifying whose end was not recorded runs again
    after = FakeJournal()
    result = await run(StatelessModel(*TURNS), Reports(*left), after, cut.entries, verify_rounds=2)
    assert (result.exit, result.text, result.steps) == (expected.exit, expected.text, expected.steps)
    sent_back = [entry.verify for entry in (*cut.entries, *after.entries) if entry.verify is not None]
    assert sent_back == [entry.verify for entry in whole.entries if entry.verify is not None]


def test_rounds_of_an_earlier_swarm_do_not_count() -> None:
    taken = asyncio.run(undisturbed()).entries
    adopted = [
        entry.model_copy(update={"adopted_from": "earlier0000/parse"}) if number > 1 else entry
        for number, entry in enumerate(taken)
    ]
    turns = [*[says("")] * 4, says("Again.")]
    result = asyncio.run(run(StatelessModel(*turns, says("Really.")), Reports(FAILED), None, adopted, verify_rounds=1))
    assert result.error is not None
    assert "told once" in result.error


def test_what_an_agent_is_told() -> None:
    report = VerifyReport(
        passed=False,
        command="make check",
        exit_code=127,
        output="\x1b[31mbash: line 1: make: command not found\x1b[0m\n",
        whole="output://7",
        changed=("a.txt", "b.txt"),
    )
    text = sent_back_text(report, 3, 3)
    assert "\x1b" not in text
    for said in (
        "exit code 127: a command does not exist",
        "command not found",
        "read output://7",
        "a.txt, b.txt",
        "do not work around it",
        "last round",
    ):
        assert said in text
    slow = sent_back_text(VerifyReport(passed=False, command="x", timed_out=True), 1, 3)
    assert "took too long" in slow
    assert "It printed nothing." in slow
    assert "last round" not in slow
