"""The script that a scripted model server follows. As YAML::

    dialect: openai                  # or anthropic: what `scripted:FILE` talks (the server answers both)
    latency_ms: 200                  # before each answer; a turn may have its own
    conversations:
      - match: "fix the parser"      # text that the first system or user message contains; the first match wins
        turns:
          - thinking: "Look first."
            tool_calls:
              - {name: read, arguments: {file_path: parser.py}}
              - {name: bash, arguments: '{"command": '}   # a string goes out as it is, valid or not
          - error: {status: 429, retry_after: 2}          # a fault: answered `times` times, then skipped
            times: 2
          - text: "Fixed."
            usage: {input: 1200, output: 30, cached: 1000}

The turn is chosen by the number of assistant messages in the request, so that a conversation can be resumed, repeated
and run many times at once. An answering turn with ``times: N`` answers N steps in a row.
"""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from swarmq.errors import UsageError
from swarmq.models.base import Record
from swarmq.models.options import describe

Dialect = Literal["openai", "anthropic"]


class ScriptedCall(Record):
    """A tool call. ``arguments`` as a string is sent as it is, so that it may be invalid JSON."""

    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict)


class ScriptedUsage(Record):
    """Tokens; ``input`` is the total and ``cached`` a part of it."""

    input: int = Field(0, ge=0)
    output: int = Field(0, ge=0)
    cached: int = Field(0, ge=0)


class ScriptedError(Record):
    """An HTTP error. ``type`` is the provider's word for it; default: the usual one for the status."""

    status: int = Field(ge=400, le=599)
    retry_after: float | str | None = Field(None, description="The Retry-After header: seconds or an HTTP date.")
    type: str | None = None
    message: str = "scripted error"


class Turn(Record):
    """An answer of the model, or a fault in its place."""

    text: str = ""
    thinking: str | None = None
    tool_calls: tuple[ScriptedCall, ...] = ()
    finish: str | None = Field(None, description="stop, tool_calls, length, refusal, or any word of the dialect.")
    usage: ScriptedUsage | None = Field(None, description="Default: estimated from the sizes of request and answer.")
    latency_ms: float | None = Field(None, ge=0)
    error: ScriptedError | None = None
    drop: Literal["before", "middle"] | None = Field(None, description="Close the connection instead of answering.")
    malformed: bool = Field(False, description="Status 200 with a body that is cut off.")
    times: int = Field(1, ge=1)

    @property
    def is_fault(self) -> bool:
        return self.error is not None or self.drop is not None or self.malformed

    @model_validator(mode="after")
    def _one_thing(self) -> Turn:
        faults = sum((self.error is not None, self.drop is not None, self.malformed))
        answers = bool(self.text or self.thinking or self.tool_calls or self.finish or self.usage)
        if faults > 1 or (faults and answers):
            raise ValueError("a turn is an answer or one of error, drop, malformed")
        return self


@dataclass(frozen=True, slots=True)
class Step:
    """An answer, the number of assistant messages from which it is given, and the faults to get past before."""

    start: int
    faults: tuple[tuple[int, Turn], ...]
    answer: Turn | None


class ScriptedConversation(Record):
    match: str
    turns: tuple[Turn, ...] = Field(min_length=1)

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """In order of ``start``; the last one, behind all answers, has none."""
        steps: list[Step] = []
        faults: list[tuple[int, Turn]] = []
        start = 0
        for index, turn in enumerate(self.turns):
            if turn.is_fault:
                faults.append((index, turn))
                continue
            steps.append(Step(start, tuple(faults), turn))
            start += turn.times
            faults.clear()
        return (*steps, Step(start, tuple(faults), None))


class Script(Record):
    """What a scripted model answers. See the module's head for the format."""

    dialect: Dialect = "openai"
    latency_ms: float = Field(0, ge=0)
    conversations: tuple[ScriptedConversation, ...] = Field(min_length=1)

    @classmethod
    def parse(cls, text: str, name: str = "script") -> Script:
        """A script from YAML (or JSON). Raises UsageError that names the wrong field."""
        try:
            return cls.model_validate(yaml.load(text, Loader=_LOADER))
        except yaml.YAMLError as error:
            raise UsageError(f"{name}: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            raise UsageError(f"{name}: {describe(error)}") from None

    @classmethod
    def load(cls, path: Path) -> Script:
        """A script from a file. Raises UsageError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        return cls.parse(text, str(path))


# libyaml's loader, where PyYAML was built with it, is ten times as fast and as safe.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Playback:
    """A script being played: which turn answers a request, and which faults were already had."""

    MAX_REMEMBERED = 10_000

    def __init__(self, script: Script) -> None:
        self._script = script
        self._had: dict[tuple[int, int, int], int] = {}  # (conversation, turn, opening) -> faults answered

    def turn(self, system: str, user: str, answers: int) -> tuple[str, Turn]:
        """The conversation's ``match`` and the turn for a request with ``answers`` assistant messages.

        Raises LookupError with a message for whoever wrote the script.
        """
        for number, conversation in enumerate(self._script.conversations):
            if conversation.match in system or conversation.match in user:
                return conversation.match, self._turn(number, conversation, hash((system, user)), answers)
        matches = ", ".join(repr(conversation.match) for conversation in self._script.conversations[:20])
        raise LookupError(f"no conversation of the script matches {user[:200]!r}; it has {matches}")

    def _turn(self, number: int, conversation: ScriptedConversation, opening: int, answers: int) -> Turn:
        step = conversation.steps[bisect.bisect_right(conversation.steps, answers, key=_start) - 1]
        for index, fault in step.faults if answers == step.start else ():
            had = self._had.get((number, index, opening), 0)
            if had < fault.times:
                self._remember((number, index, opening), had + 1)
                return fault
        if step.answer is None:
            raise LookupError(f"the turns of conversation {conversation.match!r} are used up after {answers} answers")
        return step.answer

    def _remember(self, key: tuple[int, int, int], count: int) -> None:
        self._had[key] = count
        if len(self._had) > self.MAX_REMEMBERED:
            del self._had[next(iter(self._had))]


def _start(step: Step) -> int:
    return step.start
