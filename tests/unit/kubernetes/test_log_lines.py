"""A log that is read in pieces: every line once and whole, however the node and the network cut it."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from swarmq.kubernetes.log_lines import LogLines

PART = 16
"""How much of a line the node's runtime keeps together; 16 KiB really."""
START = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp())


def stamped(nanoseconds: int) -> str:
    second, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(START + second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def served(lines: list[tuple[int, str]], since: str | None) -> bytes:
    """What a kubelet answers: no parts from before ``since``, and only a line's beginning has a time."""
    out = ""
    for nanoseconds, text in lines:
        for at in range(0, max(1, len(text)), PART):
            moment = stamped(nanoseconds + at)
            if since is None or moment >= since.replace("Z", ".000000000Z"):
                out += (f"{moment} " if at == 0 else "") + text[at : at + PART]
        if since is None or moment >= since.replace("Z", ".000000000Z"):
            out += "\n"
    return out.encode()


TEXTS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=60)
GAPS = st.sampled_from([0, 0, 1, 400_000_000, 1_000_000_000])


@given(
    st.lists(st.tuples(GAPS, TEXTS), max_size=30),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40)), max_size=8),
)
def test_every_line_once_and_whole(written: list[tuple[int, str]], cuts: list[tuple[int, int]]) -> None:
    log, now = [], 0
    for gap, text in written:
        now += gap
        log.append((now, text))
    reader, got = LogLines(), []
    for length, piece in [*cuts, (1 << 20, 64)]:
        answer = served(log, reader.since)[:length]
        reader.connected()
        for at in range(0, len(answer), piece):
            got += reader.feed(answer[at : at + piece])
    assert got + reader.finish() == [text for _, text in log]


def test_the_last_line_needs_no_end() -> None:
    reader = LogLines()
    reader.connected()
    assert reader.feed(b"2026-11-26T00:00:00.5Z one\n2026-11-26T00:00:00.6Z tw") == ["one"]
    assert reader.feed(b"o") == []
    assert (reader.finish(), reader.finish()) == (["two"], [])


def test_what_the_node_says_itself_is_no_line() -> None:
    reader = LogLines()
    reader.connected()
    assert reader.feed(b"failed to watch file: too many open files\n2026-11-26T00:00:00Z one\n") == ["one"]


def test_times_of_other_zones_and_lengths_are_the_same_times() -> None:
    reader = LogLines()
    reader.connected()
    assert reader.feed(b"2026-11-26T01:00:00.50+01:00 one\n") == ["one"]
    assert reader.since == "2026-11-26T00:00:00Z"
    reader.connected()
    assert reader.feed(b"2026-11-26T00:00:00.500000000Z one\n2026-11-26T00:00:00.500000000Z two\n") == ["two"]


def test_a_clock_that_is_set_back_hides_no_line() -> None:
    reader = LogLines()
    reader.connected()
    assert reader.feed(b"2026-11-26T00:00:09Z one\n2026-11-26T00:00:03Z two\n") == ["one", "two"]
    reader.connected()
    assert reader.since == "2026-11-26T00:00:03Z"
    assert reader.feed(b"2026-11-26T00:00:03Z two\n2026-11-26T00:00:04Z three\n") == ["three"]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    reader = LogLines(max_line_bytes=100)
    reader.connected()
    assert reader.feed(b"2026-11-26T00:00:00Z one\n2026-11-26T00:00:01Z ") == ["one"]
    for _ in range(50):
        assert reader.feed(b"x" * 60) == []
        assert len(reader.rest) <= 160
    assert reader.feed(b"x\n2026-11-26T00:00:02Z two\n") == ["two"]
    assert reader.left_out == 1
