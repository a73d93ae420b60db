"""The log of an agent that runs elsewhere: records as lines, which carry the nonce of its run.

::

    SWARMQ_STEP <nonce> {"n": 7, "body": {"type": "step", ...}}        what belongs into the branch's record
    SWARMQ_PROBE <nonce> {"body": {"type": "probe", ...}}              what it does at the moment; not numbered
    SWARMQ_RESULT <nonce> {"n": 11, "body": {"type": "result", ...}}   the last line
    SWARMQ_PART <nonce> {"n": 8, "text": "..."}                        a piece of a body that is too long for one line,
    SWARMQ_STEP <nonce> {"n": 10, "parts": 2, "text": "..."}           and its last piece

A log is a poor channel: lines are torn at its edges, come twice after a reconnect, go missing when it is rotated, and
whatever else writes to it may imitate them. So lines are numbered, short and plain ASCII, a body whose pieces are not
all there is dropped, and a line without the nonce, which only the agent's own process and its supervisor know, is text.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from swarmq.models.base import Record
from swarmq.models.branch import Observation, Outcome
from swarmq.models.events import Event
from swarmq.models.messages import Usage
from swarmq.models.transcript import Entry, printable

PIECE_CHARACTERS = 3_500
"""Of a body in one line: with everything around it less than the 16 KiB at which container runtimes cut."""
MAX_LINE_BYTES = 64 * 1024
"""No line of ours is longer; of a longer one the rest is skipped, so that a log without line breaks fills no memory."""
MAX_BODY_CHARACTERS = 64 * 1024 * 1024
TAIL_CHARACTERS = 16_000
"""So much of the log's other text is kept: it is the result of an agent that gave none."""
NONCE = r"[0-9a-f]{32}"


class Pack(Record):
    """Git objects: a pack in base64, thin (its bases may be with the receiver), and the tip that it was made for."""

    commit: str
    base64: str = Field(repr=False)


class StepRecord(Record):
    """One record of the journal. ``index`` is the position of its first entry in the transcript.

    ``checkpoint`` is the commit that holds the files as they were then: without it the entries are worth nothing.
    """

    type: Literal["step"] = "step"
    index: int = Field(ge=0)
    entries: tuple[Entry, ...]
    events: tuple[Event, ...] = ()
    steps: int = Field(0, ge=0)
    tool_calls: int = Field(0, ge=0)
    usage: Usage = Usage()
    expected: Usage | None = Field(None, description="Of the call that follows; None where none does.")
    checkpoint: str | None = None


class CheckpointRecord(Record):
    """The files have changed. The pack lacks what is in the base and in ``previous``."""

    type: Literal["checkpoint"] = "checkpoint"
    previous: str | None
    pack: Pack


class ProbeRecord(Record):
    """What a heartbeat tells."""

    type: Literal["probe"] = "probe"
    observation: Observation


class ResultRecord(Record):
    """How it ended. ``pack`` holds the finished commit; ``entries`` is the length of the whole transcript."""

    type: Literal["result"] = "result"
    swarm: str
    branch: str
    entries: int = Field(ge=0)
    outcome: Outcome
    events: tuple[Event, ...] = ()
    rate_limit_wait_seconds: float = Field(0.0, ge=0)
    pack: Pack | None = None


LogRecord = StepRecord | CheckpointRecord | ProbeRecord | ResultRecord
_RECORD: TypeAdapter[LogRecord] = TypeAdapter(Annotated[LogRecord, Field(discriminator="type")])
_WORDS = {"step": "SWARMQ_STEP", "checkpoint": "SWARMQ_STEP", "probe": "SWARMQ_PROBE", "result": "SWARMQ_RESULT"}
_PART = "SWARMQ_PART"


class Encoder:
    """Turns the records of one run into lines, and numbers them."""

    def __init__(self, nonce: str) -> None:
        if not re.fullmatch(NONCE, nonce):
            raise ValueError("a nonce is 32 hexadecimal digits")
        self._nonce, self._number = nonce, 0

    def lines(self, record: LogRecord) -> str:
        """The record as one or more whole lines."""
        word = _WORDS[record.type]
        body = printable(record.model_dump(mode="json"))
        if isinstance(record, ProbeRecord):
            return self._line(word, {"body": body})
        text = _dumps(body)
        if len(text) <= PIECE_CHARACTERS:
            return self._line(word, {"n": self._next(), "body": body})
        pieces = [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]
        parts = [self._line(_PART, {"n": self._next(), "text": piece}) for piece in pieces[:-1]]
        return "".join([*parts, self._line(word, {"n": self._next(), "parts": len(parts), "text": pieces[-1]})])

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _line(self, word: str, values: dict[str, Any]) -> str:
        return f"{word} {self._nonce} {_dumps(values)}\n"


def _dumps(value: Any) -> str:
    """ASCII: whoever handles the log on its way may take more characters than one for the end of a line."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


class Decoder:
    """Reads the log of one run, in whatever chunks it comes. Holds at most one body, and the tail of other text."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce.encode()
        self._pattern = re.compile(rb".*SWARMQ_(STEP|PROBE|RESULT|PART) " + re.escape(self._nonce) + rb" (\{.*\})\s*")
        self._rest, self._skipping = b"", False
        self._seen = 0
        self._pieces: list[str] = []
        self._pieces_characters = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.spoke = False
        """Whether any line of ours came, whatever could be made of it."""
        self.missing_lines = 0
        """Numbers that were passed over: records were lost, or a part of one."""

    @property
    def tail(self) -> str:
        """The end of what was no line of ours."""
        text = b"\n".join(line.rstrip(b"\r") for line in self._tail).replace(self._nonce, b"***")
        return text.decode("utf-8", "replace")[-TAIL_CHARACTERS:]

    def feed(self, chunk: bytes) -> Iterator[LogRecord]:
        """The records that this chunk completes."""
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            line, self._rest = self._rest + line, b""
            skipped, self._skipping = self._skipping, False
            if not skipped:
                yield from self._take(line)
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > MAX_LINE_BYTES:
                self._keep(self._rest[-TAIL_CHARACTERS:])
                self._rest, self._skipping = b"", True

    def line(self, text: str) -> LogRecord | None:
        """The record that one whole line completes, if it does."""
        found = list(self._take(text.encode("utf-8", "surrogatepass")))
        return found[0] if found else None

    def _take(self, line: bytes) -> Iterable[LogRecord]:
        matched = self._pattern.fullmatch(line) if self._nonce in line and len(line) <= MAX_LINE_BYTES else None
        if matched is None:
            self._keep(line)
            return ()
        self.spoke = True
        record = self._read(matched[1], matched[2])
        return () if record is None else (record,)

    def _keep(self, line: bytes) -> None:
        kept = line[-TAIL_CHARACTERS:]
        self._tail.append(kept)
        self._tail_bytes += len(kept) + 1
        while self._tail_bytes > 2 * TAIL_CHARACTERS and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft()) + 1

    def _read(self, word: bytes, values: bytes) -> LogRecord | None:
        try:
            line = json.loads(values)
        except ValueError:  # torn, and what followed was put behind it
            return None
        if word == b"PROBE":
            return _record(line.get("body"), word)
        number = line.get("n")
        if not isinstance(number, int) or number <= self._seen:
            return None
        if number > self._seen + 1:
            self.missing_lines += number - self._seen - 1
            self._forget_pieces()
        self._seen = number
        if word == b"PART":
            self._add_piece(line.get("text"))
            return None
        pieces, complete = self._pieces, len(self._pieces) == line.get("parts", 0)
        self._forget_pieces()
        if "body" in line:
            return _record(line["body"], word)
        text = line.get("text")
        if not complete or not isinstance(text, str):
            return None
        try:
            return _record(json.loads("".join([*pieces, text])), word)
        except ValueError:
            return None

    def _add_piece(self, text: object) -> None:
        if isinstance(text, str) and self._pieces_characters + len(text) <= MAX_BODY_CHARACTERS:
            self._pieces.append(text)
            self._pieces_characters += len(text)

    def _forget_pieces(self) -> None:
        self._pieces, self._pieces_characters = [], 0


def _record(body: object, word: bytes) -> LogRecord | None:
    """None for what is no record, or not one of those that come under that word."""
    try:
        record = _RECORD.validate_python(body)
    except ValidationError:
        return None
    return record if _WORDS[record.type].encode() == b"SWARMQ_" + word else None
