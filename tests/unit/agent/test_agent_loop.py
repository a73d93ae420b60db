"""The loop's exits, the order of its records, and what it says back to odd answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_fakes import (
    OPENING,
    Crash,
    FakeCheckpoint,
    FakeJournal,
    FakeModel,
    FakeTime,
    FakeToolbox,
    Verdict,
    assignment,
    call,
    says,
)

from swarmq.agent.assignment import LoopResult, Parked
from swarmq.agent.loop import run_agent
from swarmq.agent.ports import Leaving
from swarmq.errors import LeaseLost, PermanentModelError, TransientModelError
from swarmq.models.branch import Exit
from swarmq.models.events import EventType
from swarmq.models.messages import Completion, FinishReason, Message, Role, Text, Thinking, ToolCall, Usage


class World:
    """Everything around one run."""

    def __init__(self, model: FakeModel) -> None:
        self.log: list[str] = []
        self.model = model
        self.time = FakeTime()
        self.toolbox = FakeToolbox(log=self.log)
        self.journal = FakeJournal(log=self.log)
        self.checkpoint = FakeCheckpoint(self.log)

    async def run(self, **options: Any) -> LoopResult:
        return await run_agent(
            assignment(**options), self.model, self.toolbox, self.journal, self.checkpoint, self.time.clock()
        )

    @property
    def sent(self) -> list[Message]:
        return self.model.conversations[0].messages

    def types(self) -> list[EventType]:
        return [event.type for event in self.journal.events]


async def test_a_text_answer_ends_the_run() -> None:
    world = World(FakeModel(says("Done.")))
    result = await world.run()
    assert (result.exit, result.text, result.error, result.fault) == (Exit.COMPLETED, "Done.", None, None)
    assert (result.steps, result.tool_calls, result.usage.input_tokens) == (1, 0, 100)
    assert world.log == ["record system, user", "record assistant"]
    assert [write.reserves for write in world.journal.writes] == [True, False]
    assert world.types() == [EventType.BRANCH_STEP, EventType.BRANCH_MESSAGE, EventType.BRANCH_OUTPUT]
    assert world.model.conversations[0].closed


async def test_an_answer_is_recorded_before_its_tools_run_and_the_worktree_saved_before_their_results() -> None:
    world = World(FakeModel(says("Look.", call("edit")), says("Done.")))
    result = await world.run()
    assert world.log == [
        "record system, user",
        "record assistant",
        "tool edit",
        "checkpoint",
        "record tool",
        "record assistant",
    ]
    assert [(write.steps, write.tool_calls) for write in world.journal.writes] == [(0, 0), (1, 0), (0, 1), (1, 0)]
    assert [write.reserves for write in world.journal.writes] == [True, False, True, False]
    assert [entry.step for entry in world.journal.entries] == [0, 0, 1, 1, 2]
    assert (result.steps, result.tool_calls) == (2, 1)


async def test_steps_that_only_read_take_no_checkpoint() -> None:
    world = World(FakeModel(says("", call("read")), says("", call("unknown")), says("Done.")))
    await world.run()
    assert world.checkpoint.taken == 0


async def test_read_only_calls_of_one_step_run_at_the_same_time() -> None:
    world = World(FakeModel(says("", call("read", "a"), call("read", "b")), says("Done.")))
    barrier = asyncio.Barrier(2)

    async def meet(call: ToolCall) -> str:
        await barrier.wait()  # would never pass one after the other
        return call.id

    world.toolbox.handlers["read"] = meet
    await world.run()
    results = world.journal.entries[3].message.tool_results
    assert [(result.call_id, result.content) for result in results] == [("a", "a"), ("b", "b")]


async def test_calls_run_in_order_when_one_of_them_writes() -> None:
    world = World(FakeModel(says("", call("read", "a"), call("edit", "b"), call("read", "c")), says("Done.")))
    running = 0

    async def alone(call: ToolCall) -> str:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        return ""

    world.toolbox.handlers |= {"read": alone, "edit": alone}
    await world.run()
    assert world.toolbox.ran == ["a", "b", "c"]


async def test_an_error_of_a_port_in_a_parallel_call_comes_out_as_itself() -> None:
    world = World(FakeModel(says("", call("read", "a"), call("read", "b"))))

    async def lose(call: ToolCall) -> str:
        if call.id == "b":
            raise LeaseLost("another worker took over")
        await asyncio.Event().wait()
        return ""

    world.toolbox.handlers["read"] = lose
    with pytest.raises(LeaseLost):
        await world.run()
    assert world.model.conversations[0].closed


class HandOver:
    """Asks the run to leave while its first tool call runs."""

    def __init__(self, *calls: ToolCall) -> None:
        self.world = World(FakeModel(says("Look.", *calls), says("Never asked for.")))
        self.leaving = Leaving()
        self.world.toolbox.handlers |= {"read": self._ask, "edit": self._ask}

    async def _ask(self, call: ToolCall) -> str:
        self.leaving.asked = True
        await asyncio.sleep(0)
        return f"{call.id} ran"

    async def results(self) -> list[tuple[str, str, bool]]:
        world = self.world
        ports = world.model, world.toolbox, world.journal, world.checkpoint, world.time.clock()
        with pytest.raises(Parked):
            await run_agent(assignment(), *ports, leaving=self.leaving)
        assert world.model.asked == 1
        assert world.model.conversations[0].closed
        return [
            (found.call_id, found.content, found.is_error) for found in world.journal.entries[-1].message.tool_results
        ]


async def test_who_is_told_to_leave_records_what_runs_and_begins_nothing() -> None:
    run = HandOver(call("edit", "a"), call("read", "b"), call("edit", "c"))
    first, *others = await run.results()
    assert first == ("a", "a ran", False)
    assert [(call_id, failed) for call_id, _, failed in others] == [("b", True), ("c", True)]
    assert all("Not run" in content for _, content, _ in others)
    assert run.world.toolbox.ran == ["a"]
    assert run.world.log[-2:] == ["checkpoint", "record tool"]
    assert run.world.types().count(EventType.BRANCH_TOOL_CALL) == 1


@pytest.mark.parametrize("calls", [(), (call("edit", "a"), call("edit", "b"))], ids=["final", "calls"])
async def test_who_is_told_to_leave_in_a_model_call_ends_the_step(calls: tuple[ToolCall, ...]) -> None:
    """The answer is paid for; and whoever comes next could not tell that its tools have not run."""
    leaving = Leaving()

    async def asked() -> Completion:
        leaving.asked = True
        return says("Done.", *calls)

    world = World(FakeModel(asked, says("Never asked for.")))
    ports = world.model, world.toolbox, world.journal, world.checkpoint, world.time.clock()
    with pytest.raises(Parked):
        await run_agent(assignment(), *ports, leaving=leaving)
    assert world.model.asked == 1
    assert world.toolbox.ran == [one.id for one in calls]
    assert world.log[-1] == ("record tool" if calls else "record assistant")


async def test_who_is_told_to_leave_does_not_try_a_model_call_again() -> None:
    leaving = Leaving()

    async def fails() -> Completion:
        leaving.asked = True
        raise TransientModelError("overloaded")

    world = World(FakeModel(fails, says("Never asked for.")))
    ports = world.model, world.toolbox, world.journal, world.checkpoint, world.time.clock()
    with pytest.raises(Parked):
        await run_agent(assignment(), *ports, leaving=leaving)
    assert world.model.asked == 1
    assert world.log == ["record system, user"]


async def test_who_is_told_to_leave_ends_all_calls_that_run_at_the_same_time() -> None:
    run = HandOver(call("read", "a"), call("read", "b"))
    assert await run.results() == [("a", "a ran", False), ("b", "b ran", False)]


async def test_max_steps() -> None:
    world = World(FakeModel(says("1", call("read")), says("2", call("read"))))
    result = await world.run(max_steps_per_subagent=2)
    assert (result.exit, result.limit, result.steps) == (Exit.MAX_STEPS, "max_steps_per_subagent", 2)
    assert result.text == "2"
    assert "2 steps" in str(result.error)
    assert not world.journal.writes[-1].reserves  # a step that will never be made is not taken from the swarm


async def test_no_step_finished_in_time() -> None:
    world = World(FakeModel())

    async def slow() -> Completion:
        world.time.seconds += 130
        raise TransientModelError("timed out")

    world.model.turns = [slow] * 20
    result = await world.run(step_timeout_seconds=300, max_retries=10)
    assert (result.exit, result.limit) == (Exit.TIMED_OUT, "step_timeout_seconds")
    assert world.model.asked == 3
    assert world.model.conversations[0].timeouts == [120, 120, 40]


async def test_the_whole_run_has_its_time() -> None:
    world = World(FakeModel())

    async def slow() -> Completion:
        world.time.seconds += 100
        return says("", call("read"))

    world.model.turns = [slow] * 20
    result = await world.run(subagent_timeout_seconds=350)
    assert (result.exit, result.limit, result.steps) == (Exit.TIMED_OUT, "subagent_timeout_seconds", 4)


async def test_a_tool_that_never_ends_ends_the_run_with_its_time() -> None:
    world = World(FakeModel(says("", call("edit"))))
    cancelled = []

    async def hang(call: ToolCall) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(call.id)
            raise
        return ""

    world.toolbox.handlers["edit"] = hang
    result = await world.run(step_timeout_seconds=0.01)
    assert (result.exit, result.limit, cancelled) == (Exit.TIMED_OUT, "step_timeout_seconds", ["c1"])


async def test_waits_before_retries_are_told_and_do_not_count_as_time() -> None:
    busy = TransientModelError("HTTP 429: slow down", 429, retry_after_seconds=500)
    world = World(FakeModel(busy, busy, says("Done.")))
    result = await world.run(step_timeout_seconds=10, subagent_timeout_seconds=20)
    assert (result.exit, result.retries) == (Exit.COMPLETED, 2)
    assert sum(world.time.slept) >= 1000
    assert result.rate_limit_wait_seconds == sum(world.time.slept)
    answer = world.journal.writes[-1]
    assert [event.type for event in answer.events[:2]] == [EventType.BRANCH_RETRY, EventType.BRANCH_RETRY]
    assert [event.data["attempt"] for event in answer.events[:2]] == [1, 2]
    assert answer.entries[0].seconds == 0


async def test_waits_for_the_endpoint_are_told_at_once_and_do_not_count_as_time() -> None:
    doing: list[str] = []

    async def limited() -> Completion:
        caller = world.model.caller
        await caller.on_wait("mine", "rate")
        doing.append(world.journal.doing)
        world.time.seconds += 500
        await caller.on_waited(500)
        doing.append(world.journal.doing)
        return says("Done.")

    world = World(FakeModel(limited))
    result = await world.run(step_timeout_seconds=10, subagent_timeout_seconds=20)
    assert (result.exit, result.rate_limit_wait_seconds) == (Exit.COMPLETED, 500)
    assert doing == ["rate limited", "model call"]
    assert [(event.type, event.data) for event in world.journal.told] == [
        (EventType.BRANCH_RATE_LIMITED, {"endpoint": "mine", "reason": "rate"})
    ]
    assert world.model.caller.swarm_id == "k3x9qm2p4t"
    assert world.journal.writes[-1].entries[0].seconds == 0


async def test_the_count_of_retries_starts_anew_with_each_call() -> None:
    lost = TransientModelError("connection reset")
    model = FakeModel(lost, lost, says("", call("read")), lost, lost, says("Done."))
    result = await World(model).run(max_retries=2)
    assert (result.exit, result.retries, result.rate_limit_wait_seconds) == (Exit.COMPLETED, 4, 0)


async def test_retries_that_are_spent_are_a_failure_of_the_infrastructure() -> None:
    world = World(FakeModel(*[TransientModelError("HTTP 503", 503)] * 5))
    result = await world.run(max_retries=1)
    assert (result.exit, result.fault, result.retries) == (Exit.FAILED, "infrastructure", 1)
    assert "HTTP 503 (after 1 retry)" in str(result.error)
    assert [event.type for event in result.events] == [EventType.BRANCH_RETRY, EventType.BRANCH_ERROR]


async def test_a_bad_key_is_not_retried() -> None:
    world = World(FakeModel(PermanentModelError("HTTP 401 (check the key)", 401)))
    result = await world.run()
    assert (result.exit, result.fault, result.retries, result.steps) == (Exit.FAILED, "infrastructure", 0, 0)
    assert "check the key" in str(result.error)


async def test_a_cut_answer_is_continued_twice_and_is_one_text() -> None:
    cut = FinishReason.LENGTH
    world = World(
        FakeModel(says("", call("read")), says("One, ", finish=cut), says("two, ", finish=cut), says("three."))
    )
    result = await world.run()
    assert (result.exit, result.text, result.steps) == (Exit.COMPLETED, "One, two, three.", 4)
    assert "Go on exactly where it stopped" in world.sent[5].text
    assert [write.reserves for write in world.journal.writes[3:6]] == [False, True, False]


async def test_the_third_cut_fails() -> None:
    result = await World(FakeModel(*[says("x", finish=FinishReason.LENGTH)] * 3)).run()
    assert (result.exit, result.fault, result.steps) == (Exit.FAILED, "agent", 3)
    assert "cut off by the output limit 3 times" in str(result.error)


async def test_an_answer_cut_while_thinking_does_not_drag_in_earlier_text() -> None:
    turns = [says("Looking.", call("read")), says("", finish=FinishReason.LENGTH), says("The end.")]
    world = World(FakeModel(*turns))
    result = await world.run()
    assert result.text == "The end."
    assert all(message.parts for message in world.sent)  # endpoints refuse an answer with nothing in it


async def test_a_truncated_call_never_runs() -> None:
    broken = ToolCall(id="c9", name="edit", arguments='{"file_path": "a.p')
    turns = [says("Now.", broken, finish=FinishReason.LENGTH), says("Done.")]
    world = World(FakeModel(*turns))
    result = await world.run(max_output_tokens=50)
    assert (result.exit, world.toolbox.ran, world.checkpoint.taken) == (Exit.COMPLETED, [], 0)
    answer = world.sent[3].tool_results[0]
    assert (answer.call_id, answer.is_error) == ("c9", True)
    assert "Not run" in answer.content
    assert "50 tokens" in answer.content


async def test_truncated_calls_count_as_cuts() -> None:
    cut = FinishReason.LENGTH
    turns = [says("", call("edit"), finish=cut), says("a", finish=cut), says("", call("edit"), finish=cut)]
    result = await World(FakeModel(*turns)).run()
    assert (result.exit, result.fault, result.steps) == (Exit.FAILED, "agent", 3)


async def test_calls_run_whatever_finish_reason_came_with_them() -> None:
    world = World(FakeModel(says("", call("read"), finish=FinishReason.STOP), says("Done.")))
    await world.run()
    assert world.toolbox.ran == ["c1"]


async def test_empty_answers_are_told_twice_then_fail() -> None:
    world = World(FakeModel(says(), says("  \n"), says("Done.")))
    result = await world.run()
    assert (result.exit, result.text) == (Exit.COMPLETED, "Done.")
    assert [message.role for message in world.sent[2:]] == [Role.USER, Role.USER, Role.ASSISTANT]
    assert len(world.journal.entries) == 7  # the transcript keeps what the model really said
    result = await World(FakeModel(*[says()] * 3)).run()
    assert (result.exit, result.fault) == (Exit.FAILED, "agent")
    assert "3 empty answers" in str(result.error)


async def test_a_refusal_fails_the_agent() -> None:
    world = World(
        FakeModel(says("Earlier.", call("read")), says("I will not.", call("edit"), finish=FinishReason.REFUSAL))
    )
    result = await world.run()
    assert (result.exit, result.fault, world.toolbox.ran) == (Exit.FAILED, "agent", ["c1"])
    assert result.error == "the model refused to go on: I will not."
    silent = await World(FakeModel(says("Earlier.", call("read")), says(finish=FinishReason.REFUSAL))).run()
    assert silent.error == "the model refused to go on"


@pytest.mark.parametrize(("write", "steps"), [(1, 0), (3, 1)])
async def test_the_swarms_steps_are_used_up(write: int, steps: int) -> None:
    world = World(FakeModel(says("", call("read")), says("Done.")))
    world.journal.verdicts[write] = Verdict(limit="max_total_steps")
    result = await world.run()
    assert (result.exit, result.limit, result.fault) == (Exit.BUDGET_EXHAUSTED, "max_total_steps", None)
    assert (world.model.asked, result.steps) == (steps, steps)


async def test_a_step_waits_for_room_in_the_budget_and_no_time_out_runs() -> None:
    world = World(FakeModel(says("Done.")))
    for write in range(1, 8):
        world.journal.verdicts[write] = Verdict(hold="budget")
    result = await world.run(step_timeout_seconds=1, model_call_timeout_seconds=1)
    assert (result.exit, world.model.asked) == (Exit.COMPLETED, 1)
    asked = [write for write in world.journal.writes if not write.entries]
    assert len(asked) == 7
    assert {write.expected for write in asked} == {world.journal.writes[0].expected}
    assert world.time.slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


async def test_waiting_for_room_ends_with_a_limit_or_a_cancel() -> None:
    for verdict, exit_ in (
        (Verdict(limit="max_tokens"), Exit.BUDGET_EXHAUSTED),
        (Verdict(cancel_reason="enough", hold="budget"), Exit.CANCELLED),
    ):
        world = World(FakeModel(says("Done.")))
        world.journal.verdicts.update({1: Verdict(hold="budget"), 2: verdict})
        result = await world.run()
        assert (result.exit, world.model.asked) == (exit_, 0)


async def test_a_paused_swarm_parks_the_branch_behind_its_last_record() -> None:
    world = World(FakeModel(says("", call("edit")), says("Done.")))
    world.journal.verdicts[3] = Verdict(hold="paused")
    with pytest.raises(Parked):
        await world.run()
    assert [entry.message.role for entry in world.journal.entries][-1] is Role.TOOL
    assert (world.model.asked, world.model.conversations[0].closed) == (1, True)


async def test_the_next_call_is_expected_to_send_the_conversation_and_to_read_what_is_cached() -> None:
    cached = Usage(input_tokens=500, output_tokens=9, cached_tokens=300)
    world = World(FakeModel(says("", call("read"), usage=cached), says("Done.")))
    await world.run(max_output_tokens=700)
    first, second = (write.expected for write in world.journal.writes if write.expected is not None)
    assert (first.output_tokens, first.cached_tokens) == (700, 0)
    assert second.input_tokens > second.cached_tokens == 500


async def test_a_cancelled_branch_runs_no_more_tools() -> None:
    world = World(FakeModel(says("", call("edit"))))
    world.journal.verdicts[2] = Verdict(cancel_reason="not wanted any more")
    result = await world.run()
    assert (result.exit, result.error, world.toolbox.ran) == (Exit.CANCELLED, "not wanted any more", [])


async def test_cancelling_a_call_closes_the_connection_and_passes() -> None:
    world = World(FakeModel())
    asked = asyncio.Event()

    async def wait() -> Completion:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.model.turns = [wait]
    task = asyncio.create_task(world.run())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.model.conversations[0].closed


async def test_cancelling_stops_tools_and_leaves_their_results_out() -> None:
    world = World(FakeModel(says("", call("read", "a"), call("read", "b"))))
    started, stopped = asyncio.Semaphore(0), []

    async def wait(call: ToolCall) -> str:
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(call.id)
        return ""

    world.toolbox.handlers["read"] = wait
    task = asyncio.create_task(world.run())
    await started.acquire()
    await started.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(stopped) == ["a", "b"]
    assert [entry.message.role for entry in world.journal.entries] == [Role.SYSTEM, Role.USER, Role.ASSISTANT]


async def test_a_write_that_is_lost_ends_the_run() -> None:
    world = World(FakeModel(says("", call("edit"))))
    world.journal.crash_after = 1
    with pytest.raises(Crash):
        await world.run()
    assert world.toolbox.ran == []


async def test_events_carry_previews_only() -> None:
    thought = Thinking(text="t" * 900, dialect="openai", opaque="{}")
    long_call = ToolCall(id="c1", name="read", arguments='{"x": "' + "y" * 900 + '"}')
    message = Message(role=Role.ASSISTANT, parts=(thought, Text(text="m" * 900), long_call))
    turn = Completion(message=message, finish=FinishReason.TOOL_CALLS, raw_finish="", usage=Usage(output_tokens=7))
    world = World(FakeModel(turn, says("Done.")))

    async def long(call: ToolCall) -> str:
        return "o" * 900

    world.toolbox.handlers["read"] = long
    await world.run()
    by_type = {event.type: event for event in world.journal.writes[1].events + world.journal.writes[2].events}
    assert by_type[EventType.BRANCH_STEP].data == {"step": 1, "input_tokens": 0, "output_tokens": 7, "seconds": 0.0}
    assert len(by_type[EventType.BRANCH_THINKING].data["text"]) == 500
    assert len(by_type[EventType.BRANCH_MESSAGE].data["text"]) == 500
    tool_call = by_type[EventType.BRANCH_TOOL_CALL].data
    assert (tool_call["tool"], len(tool_call["input"]), len(tool_call["output"]), tool_call["ok"]) == (
        "read",
        200,
        500,
        True,
    )
    assert {(event.swarm, event.subtask, event.branch) for event in world.journal.events} == {
        ("k3x9qm2p4t", "parse", "parse")
    }


async def test_a_full_window_is_made_smaller_before_the_call() -> None:
    world = World(FakeModel(*[says("", call("read"))] * 12, says("Done."), context_window_tokens=12_000))

    async def large(call: ToolCall) -> str:
        return "line of text\n" * 1500

    world.toolbox.handlers["read"] = large
    result = await world.run()
    assert (result.exit, result.steps) == (Exit.COMPLETED, 13)
    conversation = world.model.conversations[0]
    assert conversation.replaced >= 1
    assert tuple(conversation.messages[:2]) == OPENING
    assert "earlier messages removed" in conversation.messages[2].text
    assert len(world.journal.entries) == 2 + 12 * 2 + 1  # the transcript keeps everything
