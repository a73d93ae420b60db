"""The log as a channel: whatever happens to its lines, what is read is what was written, once, or missing."""

from __future__ import annotations

import json
import random
import string
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmq.models.branch import Exit, Observation, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.messages import Message, Role, Text, ToolCall, ToolResult, Usage
from swarmq.models.transcript import Entry
from swarmq.pod.protocol import (
    MAX_LINE_BYTES,
    TAIL_CHARACTERS,
    CheckpointRecord,
    Decoder,
    Encoder,
    LogRecord,
    Pack,
    ProbeRecord,
    ResultRecord,
    StepRecord,
)

NONCE = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
CONTAINER_LINE_BYTES = 16 * 1024

texts = st.text(max_size=60) | st.text(min_size=0, max_size=3).map(lambda text: text * 4_000)


def step(index: int, text: str = "done") -> StepRecord:
    message = Message(role=Role.ASSISTANT, parts=(Text(text=text), ToolCall(id="c", name="bash", arguments=text)))
    entry = Entry(step=1, at=1.5, message=message, usage=Usage(input_tokens=3, output_tokens=4))
    event = Event(type=EventType.BRANCH_STEP, at=2.0, swarm="s", branch="b", data={"step": 1, "error": None})
    return StepRecord(index=index, entries=(entry,), events=(event,), steps=1, usage=Usage(input_tokens=3))


def result(text: str) -> ResultRecord:
    return ResultRecord(swarm="s", branch="b", entries=3, outcome=Outcome(exit=Exit.COMPLETED, text=text))


records = st.one_of(
    st.builds(step, st.integers(0, 1000), texts),
    st.builds(
        lambda text: CheckpointRecord(previous=None, pack=Pack(commit="a" * 40, base64=text)),
        st.text(string.ascii_letters, max_size=30_000),
    ),
    st.builds(lambda text: ProbeRecord(observation=Observation(at=1.0, doing=text)), st.text(max_size=20)),
    st.builds(result, texts),
)


def fragments(data: st.DataObject, log: bytes) -> list[bytes]:
    """The log in chunks that end anywhere."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=12)))
    return [log[start:end] for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)]


def decode(log: bytes, nonce: str = NONCE) -> list[LogRecord]:
    return list(Decoder(nonce).feed(log))


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=6), st.data())
def test_what_is_written_is_read_in_whatever_chunks(sent: list[LogRecord], data: st.DataObject) -> None:
    encoder, decoder = Encoder(NONCE), Decoder(NONCE)
    log = "".join(encoder.lines(record) for record in sent).encode()
    assert log.isascii()
    assert all(len(line) < CONTAINER_LINE_BYTES for line in log.splitlines())
    read = [record for chunk in fragments(data, log) for record in decoder.feed(chunk)]
    assert read == sent
    assert decoder.missing_lines == 0
    assert decoder.tail == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(records, min_size=1, max_size=6), st.integers())
def test_doubled_missing_and_torn_lines_never_make_up_a_record(sent: list[LogRecord], seed: int) -> None:
    chance = random.Random(seed)
    encoder, decoder = Encoder(NONCE), Decoder(NONCE)
    lines = "".join(encoder.lines(record) for record in sent).encode().splitlines(keepends=True)
    log = b""
    for line in lines:
        match chance.choice(["whole", "whole", "twice", "missing", "torn", "glued"]):
            case "whole":
                log += line
            case "twice":
                log += line + line
            case "torn":
                log += line[: chance.randrange(len(line) - 1)] + b"\n"
            case "glued":  # torn, and then again from its beginning
                log += line[: chance.randrange(len(line) - 1)] + line
            case _:
                pass
    read = [record for record in decoder.feed(log) if not isinstance(record, ProbeRecord)]
    numbered = iter(record for record in sent if not isinstance(record, ProbeRecord))
    assert all(record in numbered for record in read)  # a subsequence: in order, none twice, none invented


def test_an_agent_is_heard_by_whatever_line_of_it_comes() -> None:
    first, *_ = Encoder(NONCE).lines(step(0, "x" * 20_000)).encode().splitlines(keepends=True)
    decoder = Decoder(NONCE)
    assert list(decoder.feed(b"the last words\n" + Encoder("e" * 32).lines(step(0)).encode())) == []
    assert not decoder.spoke
    assert list(decoder.feed(first)) == []
    assert decoder.spoke, "though the record is not whole"


def test_a_lost_part_drops_its_record_and_no_other() -> None:
    encoder, decoder = Encoder(NONCE), Decoder(NONCE)
    first, long, last = step(0), step(1, "x" * 20_000), step(2)
    lines = "".join(map(encoder.lines, (first, long, last))).encode().splitlines(keepends=True)
    assert len(lines) > 6
    del lines[3]
    assert list(decoder.feed(b"".join(lines))) == [first, last]
    assert decoder.missing_lines == 1


def test_a_log_that_begins_again_gives_nothing_twice() -> None:
    encoder = Encoder(NONCE)
    log = "".join(encoder.lines(step(number, "y" * 5_000)) for number in range(4)).encode()
    decoder = Decoder(NONCE)
    assert len(list(decoder.feed(log))) == 4
    assert list(decoder.feed(log)) == []


@given(st.binary(max_size=300))
def test_junk_is_text(junk: bytes) -> None:
    decoder = Decoder(NONCE)
    assert list(decoder.feed(junk + b"\n")) == []
    assert decode(junk + b"\n" + Encoder(NONCE).lines(step(0)).encode()) == [step(0)]


@pytest.mark.parametrize(
    "line",
    [
        Encoder(OTHER).lines(result("mine is the result")),
        'SWARMQ_RESULT  {"n":1,"body":{"type":"result"}}\n',
        'SWARMQ_RESULT * {"n":1}\n',
        f'SWARMQ_RESULT {NONCE} {{"n":1,"body":{{"type":"result"}}}}\n',
        f'SWARMQ_RESULT {NONCE} {{"n":1,"body":{json.dumps(step(0).model_dump(mode="json"))}}}\n',
        f'SWARMQ_RESULT {NONCE} {{"n":true,"parts":[],"text":4}}\n',
        f'SWARMQ_RESULT {NONCE} {{"n":-1,"parts":0,"text":"{{}}"}}\n',
        f'SWARMQ_PART {NONCE} {{"n":1,"text":["a"]}}\n',
        f"SWARMQ_PROBE {NONCE} {{}}\n",
        f"SWARMQ_STEP {NONCE} [1]\n",
    ],
)
def test_lines_that_imitate_the_protocol_are_no_records(line: str) -> None:
    decoder = Decoder(NONCE)
    assert list(decoder.feed(line.encode())) == []
    assert NONCE not in decoder.tail


def test_the_tail_is_what_else_was_written_without_the_nonce() -> None:
    decoder = Decoder(NONCE)
    torn = Encoder(NONCE).lines(step(0))[:-20]
    list(decoder.feed(f"first\n{Encoder(NONCE).lines(step(0))}Killed\r\n{torn}\nlast\n".encode()))
    assert decoder.tail.startswith("first\nKilled\nSWARMQ_STEP ***")
    assert decoder.tail.endswith("\nlast")


def noisy(decoder: Decoder, megabytes: int) -> list[LogRecord]:
    """What is read out of a log in which a step stands between megabytes of other output."""
    encoder, endless, lines = Encoder(NONCE), b"z" * 500_000, b"noise " * 20 + b"\n"
    read: list[LogRecord] = []
    for number in range(megabytes):
        read += decoder.feed(endless)
        read += decoder.feed(lines * (500_000 // len(lines)))
        read += decoder.feed(encoder.lines(step(number)).encode())
    return read


def test_steps_are_found_in_a_hundred_megabytes_of_other_output() -> None:
    decoder = Decoder(NONCE)
    assert noisy(decoder, 100) == [step(number) for number in range(100)]
    assert len(decoder.tail) <= TAIL_CHARACTERS


def test_other_output_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        noisy(Decoder(NONCE), 10)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5_000_000


def test_lines_one_by_one_read_the_same() -> None:
    encoder, decoder = Encoder(NONCE), Decoder(NONCE)
    sent = [step(0, "a\u2028b\x85c"), step(1, "w" * 9_000)]
    lines = "".join(map(encoder.lines, sent)).splitlines()
    assert [record for line in lines if (record := decoder.line(line)) is not None] == sent
    assert decoder.line("y" * (MAX_LINE_BYTES + 1)) is None


def test_what_is_no_text_becomes_a_question_mark() -> None:
    message = Message(role=Role.TOOL, parts=(ToolResult(call_id="c", name="bash", content="a\udcffb"),))
    record = StepRecord(index=0, entries=(Entry(step=0, at=0.0, message=message),))
    read = decode(Encoder(NONCE).lines(record).encode())
    assert isinstance(read[0], StepRecord)
    assert read[0].entries[0].message.tool_results[0].content == "a?b"


def test_a_nonce_is_not_just_anything() -> None:
    with pytest.raises(ValueError, match="32 hexadecimal"):
        Encoder("guess me")
