"""What an answer of the model means for the run, and what is said back to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from swarmq.models.messages import FinishReason, Message, Role, ToolCall, ToolResult, Usage, user
from swarmq.models.transcript import Entry

MAX_CONTINUATIONS = 2
MAX_EMPTY_ANSWERS = 2


class Answer(StrEnum):
    """Kinds of answers."""

    CALLS = "calls"
    """Asks for tools; whatever finish reason came with it (some endpoints say ``stop``)."""
    FINAL = "final"
    CUT = "cut"
    """Text that the output limit ended."""
    CUT_CALLS = "cut_calls"
    """Tool calls that the output limit may have truncated: never executed."""
    EMPTY = "empty"
    REFUSED = "refused"


def classify(message: Message, finish: FinishReason | None) -> Answer:
    """The kind of an assistant message."""
    calls = bool(message.tool_calls)
    if finish is FinishReason.REFUSAL:
        return Answer.REFUSED
    if finish is FinishReason.LENGTH:
        return Answer.CUT_CALLS if calls else Answer.CUT
    if calls:
        return Answer.CALLS
    return Answer.FINAL if message.text.strip() else Answer.EMPTY


def sendable(message: Message) -> bool:
    """Whether a message can go back to a model: endpoints refuse answers without text and without calls."""
    return message.role is not Role.ASSISTANT or bool(message.tool_calls) or bool(message.text.strip())


@dataclass
class Progress:
    """What a run has done so far, counted from its entries alone, so that a resumed run counts on."""

    steps: int = 0
    adopted_steps: int = 0
    """Answers that an earlier swarm paid for; they are no steps of this run."""
    tool_calls: int = 0
    usage: Usage = field(default_factory=Usage)
    last_usage: Usage = field(default_factory=Usage)
    """Of the last answer."""
    spent_seconds: float = 0.0
    cuts: int = 0
    """Answers in a row that the output limit ended."""
    empties: int = 0
    sent_back: int = 0
    """How often the agent said that it is done, and its work did not pass verify."""
    text: str = ""
    """The last answer's text; an answer that was continued is one text."""
    _continues: bool = False

    @property
    def answers(self) -> int:
        """The number of the conversation's last answer."""
        return self.adopted_steps + self.steps

    def saw(self, entry: Entry) -> None:
        if entry.adopted_from is None:
            self.spent_seconds += entry.seconds
            self.tool_calls += len(entry.message.tool_results)
            self.sent_back += entry.verify is not None
        if entry.message.role is Role.ASSISTANT:
            self._saw_answer(entry)

    def _saw_answer(self, entry: Entry) -> None:
        if entry.adopted_from is None:
            self.steps += 1
            self.last_usage = entry.usage or Usage()
            self.usage += self.last_usage
        else:
            self.adopted_steps += 1
        text, answer = entry.message.text, classify(entry.message, entry.finish)
        if answer is Answer.EMPTY:
            self.empties += 1
            return
        self.empties = 0
        self.cuts = self.cuts + 1 if answer in (Answer.CUT, Answer.CUT_CALLS) else 0
        if answer in (Answer.CUT, Answer.FINAL):
            self.text = self.text + text if self._continues else text
        elif text.strip():
            self.text = text
        self._continues = answer is Answer.CUT

    def given_up(self, message: Message, answer: Answer) -> str | None:
        """Why the run cannot go on after this answer, the last one seen; None where it can."""
        if answer is Answer.REFUSED:
            said = message.text.strip()[:500]
            return f"the model refused to go on: {said}" if said else "the model refused to go on"
        if answer in (Answer.CUT, Answer.CUT_CALLS) and self.cuts > MAX_CONTINUATIONS:
            return f"the model's answer was cut off by the output limit {self.cuts} times in a row"
        if answer is Answer.EMPTY and self.empties > MAX_EMPTY_ANSWERS:
            return f"the model gave {self.empties} empty answers in a row"
        return None


def follow_up(message: Message, answer: Answer, max_output_tokens: int) -> Message:
    """What is said to an answer that is neither final nor asks for tools that can run."""
    if answer is Answer.CUT:
        return user(
            f"Your answer was cut off at the limit of {max_output_tokens} tokens. Go on exactly where it stopped, "
            "without repeating any of it."
        )
    if answer is Answer.EMPTY:
        return user(
            "Your answer was empty. If the task is done, answer with a summary of what you did and found. "
            "If it is not, go on with a tool call."
        )
    return answered(
        message,
        f"Not run: your answer was cut off at the limit of {max_output_tokens} tokens, so this call may be incomplete. "
        "Do it in smaller pieces: fewer calls in one answer, or less text in one call.",
    )


def interrupted(message: Message) -> Message:
    """Results for calls whose worker was lost: nobody knows how far they came."""
    return answered(
        message,
        "The worker that ran this call was lost before the result was recorded. The call may or may not have taken "
        "effect. Check what it changed (files, processes, shared results) before you repeat it.",
    )


def not_begun(call: ToolCall) -> ToolResult:
    """The result of a call whose turn had not come when its worker was told to stop."""
    return _failed(
        call, "Not run: the worker was told to stop before this call began. Make the call again if it is still wanted."
    )


def cut_short(message: Message) -> Message:
    """Results for calls that were open when an earlier attempt ended."""
    return answered(
        message,
        "The earlier attempt ended before the result of this call was recorded. The call may or may not have taken "
        "effect. Check what it changed before you repeat it.",
    )


def answered(message: Message, error: str) -> Message:
    """The same error for every call of a message: a call without a result is refused by every dialect."""
    return Message(role=Role.TOOL, parts=tuple(_failed(call, error) for call in message.tool_calls))


def _failed(call: ToolCall, error: str) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, content=error, is_error=True)
