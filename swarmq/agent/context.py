"""Keeping a conversation inside the model's context window (S4). Pure; a step costs its own size only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from swarmq.agent.removal import Removal
from swarmq.models.messages import Message, Part, Role, Text, Thinking, ToolCall, ToolResult

WINDOW_SHARE = 0.85
ANSWER_TOKENS = 8192
MESSAGE_TOKENS, CALL_TOKENS, RESULT_TOKENS = 4, 10, 6
LARGE_TOKENS = 2000
"""A tool result above this is the first to be cut when the window is full."""
CUT_CHARACTERS = 6000
KEEP_FIRST, KEEP_LAST = 2, 4

_LEAST_SHARE_OF_ESTIMATE = 0.5
"""Some endpoints count only uncached tokens as input: a figure below this share of the estimate is not believed."""
_CUT_MARK = "to fit the context window]"
_MARK_CHARACTERS = 400
_OUTPUT_REFERENCE = re.compile(r"output://[\w.-]+")


def text_tokens(text: str) -> int:
    """ceil(UTF-8 bytes / 3.5)."""
    size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-2 * size_bytes // 7)


def message_tokens(message: Message) -> int:
    """The estimate of S4 for one message."""
    return MESSAGE_TOKENS + sum(_part_tokens(part) for part in message.parts)


def _part_tokens(part: Part) -> int:
    match part:
        case Text() | Thinking():
            return text_tokens(part.text)
        case ToolCall():
            return CALL_TOKENS + text_tokens(part.id) + text_tokens(part.name) + text_tokens(part.arguments)
        case ToolResult():
            return RESULT_TOKENS + text_tokens(part.call_id) + text_tokens(part.content)


def target_tokens(window_tokens: int) -> int:
    """A conversation above this is made shorter: the rest is for the answer and for what the estimate missed."""
    return int(WINDOW_SHARE * window_tokens - min(ANSWER_TOKENS, window_tokens / 4))


def line_end(text: str, limit_characters: int) -> int:
    """Where to cut: the last line end within the limit, or the limit where that would lose more than half."""
    newline = text.rfind("\n", 0, limit_characters)
    return newline if newline >= limit_characters // 2 else limit_characters


def cut_text(text: str, limit_characters: int = CUT_CHARACTERS) -> str:
    """The start of a text with a note of how much is gone and where the whole is; cutting twice changes nothing."""
    if len(text) <= limit_characters:
        return text
    if text.endswith(_CUT_MARK) and len(text) <= limit_characters + _MARK_CHARACTERS:
        return text
    end = line_end(text, limit_characters)
    whole = sorted(set(_OUTPUT_REFERENCE.findall(text, end)))[:3]
    where = f"; the whole text is at {', '.join(whole)}" if whole else ""
    return f"{text[:end]}\n\n[Cut: {end:,} of {len(text):,} characters kept{where}, {_CUT_MARK}"


@dataclass(frozen=True)
class _Sized:
    message: Message
    tokens: int

    @classmethod
    def of(cls, message: Message) -> _Sized:
        return cls(message, message_tokens(message))


class Context:
    """The messages that the next call would send, with a running estimate of their tokens."""

    def __init__(self, window_tokens: int, messages: Sequence[Message] = ()) -> None:
        self.target = target_tokens(window_tokens)
        self._sized: list[_Sized] = []
        self._estimate = 0
        self._correction = 0
        self._removal = Removal()
        self._summary: Message | None = None
        self._cut_before = 0  # no message before this index holds a tool result that could still be cut
        for message in messages:
            self.append(message)

    @property
    def messages(self) -> list[Message]:
        return [sized.message for sized in self._sized]

    @property
    def tokens(self) -> int:
        """The estimate, corrected by what the provider last counted."""
        return self._estimate + self._correction

    def append(self, message: Message) -> None:
        sized = _Sized.of(message)
        self._sized.append(sized)
        self._estimate += sized.tokens

    def measured(self, input_tokens: int) -> None:
        """Take over the provider's count of all messages so far, tool definitions included; 0 says nothing."""
        if input_tokens > 0:
            self._correction = max(input_tokens, int(self._estimate * _LEAST_SHARE_OF_ESTIMATE)) - self._estimate

    def fit(self) -> list[Message] | None:
        """Make the conversation fit. The new messages where something had to go, None where all could stay."""
        changed = False
        for shorten in (self._cut_results, self._replace_middle, self._cut_everything):
            if self.tokens <= self.target:
                break
            changed = shorten() or changed
        return self.messages if changed else None

    def _become(self, sized: list[_Sized]) -> bool:
        estimate = sum(one.tokens for one in sized)
        # What the provider counted differently shrinks with the messages; its next count tells the truth again.
        self._correction = self._correction * estimate // max(1, self._estimate)
        self._sized, self._estimate = sized, estimate
        return True

    def _cut_results(self) -> bool:
        kept, looked_at = self._sized[: self._cut_before], self._sized[self._cut_before :]
        self._cut_before = len(self._sized)
        shorter = [_shorter(sized, _cut_result) for sized in looked_at]
        return _differ(shorter, looked_at) and self._become(kept + shorter)

    def _replace_middle(self) -> bool:
        head, tail = middle(self.messages)
        gone = [sized.message for sized in self._sized[head:tail] if sized.message is not self._summary]
        if not gone:
            return False
        self._removal = self._removal.plus(gone)
        self._summary = self._removal.as_message()
        sized = [*self._sized[:head], _Sized.of(self._summary), *self._sized[tail:]]
        self._cut_before = len(sized)
        return self._become(sized)

    def _cut_everything(self) -> bool:
        """The last resort, for answers and arguments that fill a window alone; the prompts stay as they are."""
        kept, looked_at = self._sized[:KEEP_FIRST], self._sized[KEEP_FIRST:]
        shorter = [one if one.message is self._summary else _shorter(one, _cut_any) for one in looked_at]
        return _differ(shorter, looked_at) and self._become(kept + shorter)


def middle(messages: Sequence[Message]) -> tuple[int, int]:
    """Where the part begins and ends that may go: on neither side is a call parted from its results."""
    head, tail = min(KEEP_FIRST, len(messages)), max(0, len(messages) - KEEP_LAST)
    while head < len(messages) and messages[head].role is Role.TOOL:
        head += 1
    while tail > head and messages[tail].role is Role.TOOL:
        tail -= 1
    return head, max(head, tail)


def _differ(new: Sequence[_Sized], old: Sequence[_Sized]) -> bool:
    return any(one is not other for one, other in zip(new, old, strict=True))


def _shorter(sized: _Sized, cut: Callable[[Part], Part]) -> _Sized:
    """The message with its large parts cut; the same object where there is nothing to cut."""
    if sized.tokens <= LARGE_TOKENS:
        return sized
    parts = tuple(cut(part) if _part_tokens(part) > LARGE_TOKENS else part for part in sized.message.parts)
    if parts == sized.message.parts:
        return sized
    return _Sized.of(Message(role=sized.message.role, parts=parts))


def _cut_result(part: Part) -> Part:
    if isinstance(part, ToolResult):
        return part.model_copy(update={"content": cut_text(part.content)})
    return part


def _cut_any(part: Part) -> Part:
    match part:
        case Text():
            return Text(text=cut_text(part.text))
        case ToolCall() if len(part.arguments) > CUT_CHARACTERS:
            # Still a JSON object, which is all that the dialects ask of a call of the past.
            note = {"removed": f"{len(part.arguments):,} characters of arguments, {_CUT_MARK[:-1]}"}
            return part.model_copy(update={"arguments": orjson.dumps(note).decode()})
        case ToolResult():
            return _cut_result(part)
        case _:  # thinking goes back as the provider wrote it, or not at all
            return part
