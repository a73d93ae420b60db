"""The agent loop (S4): limits, fit, call, record, tools, record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from swarmq.agent.answers import Answer, Progress, classify, follow_up, interrupted, sendable
from swarmq.agent.assignment import Assignment, Ended, LoopResult, Parked
from swarmq.agent.context import Context
from swarmq.agent.finishing import Finishing
from swarmq.agent.model_call import Patience, complete
from swarmq.agent.narration import Narrator
from swarmq.agent.ports import Checkpoint, Journal, Leaving, Recorded, Toolbox, Verify
from swarmq.agent.room import expected_usage, wait_for_room
from swarmq.agent.timing import Clock, Deadlines
from swarmq.agent.tool_calls import ToolCalls
from swarmq.agent.waiting import Waits
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import ModelError
from swarmq.models.branch import Exit
from swarmq.models.events import Event
from swarmq.models.messages import Completion, Message, Role, ToolCall, Usage
from swarmq.models.transcript import Entry
from swarmq.models.verify import VerifyReport
from swarmq.providers.base import ChatModel
from swarmq.providers.limiter import Caller

log = structlog.get_logger()


async def run_agent(
    assignment: Assignment,
    model: ChatModel,
    toolbox: Toolbox,
    journal: Journal,
    checkpoint: Checkpoint,
    clock: Clock | None = None,
    verify: Verify | None = None,
    leaving: Leaving | None = None,
) -> LoopResult:
    """Run to one of the named exits. ``verify`` decides whether work that is said to be done is.

    Raises Parked where the swarm is paused, and where ``leaving`` was asked for, once the step that ran then is
    recorded. Cancelling passes through as CancelledError, with the connection closed: the caller knows whether it was a
    kill or a hand-over. LeaseLost, StoreError and WorkspaceError of the ports pass through as well.
    """
    loop = _Loop(assignment, model, toolbox, journal, checkpoint, clock or Clock(), verify, leaving or Leaving())
    try:
        return await loop.run()
    finally:
        await loop.conversation.aclose()


class _Loop:
    def __init__(
        self,
        assignment: Assignment,
        model: ChatModel,
        toolbox: Toolbox,
        journal: Journal,
        checkpoint: Checkpoint,
        clock: Clock,
        verify: Verify | None,
        leaving: Leaving,
    ) -> None:
        options = assignment.options
        self.assignment, self.options, self.clock = assignment, options, clock
        self.journal, self.checkpoint, self.leaving = journal, checkpoint, leaving
        self.context = Context(model.context_window_tokens)
        self.patience = Patience.of(options)
        self.narrator = Narrator(assignment.branch, clock.unix)
        self.progress = Progress()
        for entry in assignment.entries:
            self.progress.saw(entry)
        self.deadlines = Deadlines(
            clock,
            step_timeout_seconds=options.step_timeout_seconds,
            total_timeout_seconds=options.subagent_timeout_seconds,
            spent_seconds=self.progress.spent_seconds,
        )
        self.events: list[Event] = []  # of what happened since the last record; they go with the next one
        self.tool_calls = ToolCalls(toolbox, self.narrator, clock, self._note, leaving)
        self.waits = Waits(journal, self.narrator, self.deadlines, clock, self._note, leaving)
        self.finishing = Finishing(verify, options.verify_rounds, self.narrator, self.deadlines, clock, self._note)
        caller = Caller(assignment.branch.swarm_id, self.waits.for_permit, self.waits.had_permit)
        self.conversation = model.conversation(toolbox.specs(), caller)

    def _note(self, event: Event) -> None:
        self.events.append(event)

    async def run(self) -> LoopResult:
        try:
            await self._begin()
            while True:
                await self._step()
        except Ended as end:
            return self._result(end)

    async def _step(self) -> None:
        self._check_limits()
        self._fit()
        completion, seconds = await self._call()
        answer = await self._record_answer(completion, seconds)
        await self._reply(completion.message, answer)

    async def _begin(self) -> None:
        """Record the opening; or rebuild the conversation and settle what an earlier holder left open."""
        entries, opening = self.assignment.entries, self.assignment.opening
        if not entries:
            first = self.assignment.beginning(self.clock.unix())
            for entry in first:
                self.progress.saw(entry)
            await self._write(first, step_follows=True)
            return
        for message in (*opening, *(entry.message for entry in entries[len(opening) :])):
            if sendable(message):
                self.context.append(message)
        self.conversation.replace(self.context.messages)
        last = entries[-1]
        if last.message.role is Role.ASSISTANT:
            await self._reply(last.message, classify(last.message, last.finish), lost=True)
        elif self.assignment.resume_note is not None:
            await self._record([self.assignment.resume_note], step_follows=True)

    def _check_limits(self) -> None:
        most = self.options.max_steps_per_subagent
        if self.progress.steps >= most:
            error = f"the agent used all of its {most} steps without finishing"
            raise Ended(Exit.MAX_STEPS, error, limit="max_steps_per_subagent", fault="agent")
        self._left_seconds()

    def _left_seconds(self) -> float:
        left_seconds = self.deadlines.left_seconds()
        if left_seconds <= 0:
            raise self._timed_out()
        return left_seconds

    def _timed_out(self) -> Ended:
        limit, error = self.deadlines.nearest()
        return Ended(Exit.TIMED_OUT, error, limit=limit, fault="agent")

    def _fit(self) -> None:
        before = self.context.tokens
        messages = self.context.fit()
        if messages is not None:
            self.conversation.replace(messages)
            branch, now = self.assignment.branch, self.context.tokens
            log.info("context shortened", swarm=branch.swarm_id, branch=branch.id, before_tokens=before, now_tokens=now)

    async def _call(self) -> tuple[Completion, float]:
        """The model's answer and the seconds it took, waits before retries left out."""
        if self.leaving.asked:
            raise Parked
        started = self.deadlines.working_seconds()
        try:
            completion = await complete(
                self.conversation,
                self.patience,
                self.clock,
                left_seconds=self._left_seconds,
                wait=self.waits.before_retry,
            )
        except ModelError as error:
            # A key, an endpoint or a refused request says nothing of the agent's work.
            why = f"the model call failed: {error}"
            raise Ended(Exit.FAILED, why, fault="infrastructure", model_status=error.status) from error
        return completion, self.deadlines.working_seconds() - started

    async def _record_answer(self, completion: Completion, seconds: float) -> Answer:
        """Before any of its tools runs: what a model has answered is never paid for twice."""
        self.context.measured(completion.usage.input_tokens)
        answer = classify(completion.message, completion.finish)
        entry = Entry(
            step=self.progress.answers + 1,
            at=self.clock.unix(),
            message=completion.message,
            usage=completion.usage,
            seconds=seconds,
            finish=completion.finish,
        )
        self.events += self.narrator.step(entry.step, completion, seconds)
        self.progress.saw(entry)
        if answer is Answer.FINAL:
            self.events.append(self.narrator.output(self.progress.text))
        reached(CrashPoint.ANSWER_RECORDED)
        await self._write([entry], steps=1, usage=completion.usage)
        return answer

    async def _reply(self, message: Message, answer: Answer, *, lost: bool = False) -> None:
        """Record what follows an answer, with the next step reserved; or end, where nothing does."""
        given_up = self.progress.given_up(message, answer)
        if given_up is not None:
            raise Ended(Exit.FAILED, given_up, fault="agent")
        started, report = self.deadlines.working_seconds(), None
        if answer is Answer.FINAL:
            back = await self.finishing(self.progress.sent_back)
            replies, report = [back.message], back.report
            reached(CrashPoint.SENT_BACK)
        elif answer is not Answer.CALLS:
            replies = [follow_up(message, answer, self.options.max_output_tokens)]
        elif lost:
            replies = [interrupted(message)]
        else:
            replies = [await self._run_tools(message.tool_calls)]
        if lost and self.assignment.resume_note is not None:
            replies.append(self.assignment.resume_note)
        seconds = self.deadlines.working_seconds() - started
        more = self.progress.steps < self.options.max_steps_per_subagent
        reached(CrashPoint.RESULTS_RECORDED)
        await self._record(replies, seconds=seconds, step_follows=more, verify=report)
        self.deadlines.stepped()

    async def _run_tools(self, calls: Sequence[ToolCall]) -> Message:
        """The results in the order of the calls. A worktree that may have changed is saved before they are recorded."""
        reached(CrashPoint.TOOLS_RUN)
        try:
            async with asyncio.timeout(self._left_seconds()) as limit:
                results = await self.tool_calls.run(calls)
        except TimeoutError:
            if limit.expired():
                raise self._timed_out() from None
            raise
        if self.tool_calls.may_write(calls):
            reached(CrashPoint.WORKTREE_SAVED)
            await self.checkpoint()
        return Message(role=Role.TOOL, parts=tuple(results))

    async def _record(
        self,
        messages: Sequence[Message],
        *,
        seconds: float = 0.0,
        step_follows: bool,
        verify: VerifyReport | None = None,
    ) -> None:
        """Messages that no model wrote. The seconds, and what verify came to, are the first one's."""
        at, step = self.clock.unix(), self.progress.answers
        entries = [Entry(step=step, at=at, message=message, seconds=seconds, verify=verify) for message in messages[:1]]
        entries += [Entry(step=step, at=at, message=message) for message in messages[1:]]
        before = self.progress.tool_calls
        for entry in entries:
            self.progress.saw(entry)
        await self._write(entries, tool_calls=self.progress.tool_calls - before, step_follows=step_follows)

    async def _write(
        self,
        entries: Sequence[Entry],
        *,
        steps: int = 0,
        tool_calls: int = 0,
        usage: Usage | None = None,
        step_follows: bool = False,
    ) -> None:
        events, self.events = self.events, []
        for entry in entries:
            if sendable(entry.message):
                self.context.append(entry.message)
                self.conversation.append(entry.message)
        expected = None
        if step_follows:
            expected = expected_usage(self.context, self.progress.last_usage, self.options.max_output_tokens)

        async def ask() -> Recorded:
            return await self.journal.record((), (), steps=0, tool_calls=0, usage=Usage(), expected=expected)

        recorded = await self.journal.record(
            entries, events, steps=steps, tool_calls=tool_calls, usage=usage or Usage(), expected=expected
        )
        if self.leaving.asked and not (entries and entries[-1].message.tool_calls):
            raise Parked
        recorded = await wait_for_room(recorded, ask, self.clock, self.deadlines)
        if recorded.cancel_reason is not None:
            raise Ended(Exit.CANCELLED, recorded.cancel_reason)
        if recorded.limit is not None:
            why = f"the swarm's {recorded.limit} leaves no room for another call"
            raise Ended(Exit.BUDGET_EXHAUSTED, why, limit=recorded.limit)

    def _result(self, end: Ended) -> LoopResult:
        progress = self.progress
        return LoopResult(
            exit=end.exit,
            text=progress.text,
            error=end.error,
            fault=end.fault,
            limit=end.limit,
            steps=progress.steps,
            tool_calls=progress.tool_calls,
            retries=self.waits.retries,
            usage=progress.usage,
            rate_limit_wait_seconds=self.waits.rate_limit_seconds,
            events=(*self.events, *([self.narrator.error(end.error)] if end.error else [])),
            model_status=end.model_status,
        )
