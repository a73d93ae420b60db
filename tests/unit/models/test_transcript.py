"""Transcript entries as bytes: what goes in comes out, and what is no entry is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import SchemaError
from swarmq.models.messages import (
    FinishReason,
    Message,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    user,
)
from swarmq.models.transcript import Entry

texts = st.text(st.characters(codec="utf-8"))
parts = st.one_of(
    st.builds(Text, text=texts),
    st.builds(Thinking, text=texts, dialect=st.sampled_from(["openai", "anthropic"]), opaque=texts),
    st.builds(ToolCall, id=texts, name=texts, arguments=texts),
    st.builds(ToolResult, call_id=texts, name=texts, content=texts, is_error=st.booleans()),
)
counts = st.integers(0, 2**40)
entries = st.builds(
    Entry,
    step=st.integers(0, 10_000),
    at=st.floats(0, 1e12),
    message=st.builds(Message, role=st.sampled_from(Role), parts=st.lists(parts, max_size=4).map(tuple)),
    usage=st.none() | st.builds(Usage, input_tokens=counts, output_tokens=counts, cached_tokens=counts),
    seconds=st.floats(0, 1e6),
    finish=st.none() | st.sampled_from(FinishReason),
)


@given(entries)
def test_an_entry_survives_its_bytes(entry: Entry) -> None:
    assert Entry.decode(entry.encode(), 0) == entry


def test_characters_that_are_no_text_do_not_stop_a_branch() -> None:
    entry = Entry(step=1, at=2.0, message=user("caf\udce9"))
    assert Entry.decode(entry.encode(), 0).message.text == "caf?"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "transcript entry 7: it is not a JSON object"),
        (b"[1]", "transcript entry 7: it is not a JSON object"),
        (b'{"v":2,"new":1}', "transcript entry 7: schema version 2, this swarmq knows 1; update swarmq"),
        (b'{"v":1,"step":1,"at":1}', "transcript entry 7: message: Field required"),
    ],
)
def test_what_is_no_entry_is_named(raw: bytes, said: str) -> None:
    with pytest.raises(SchemaError) as raised:
        Entry.decode(raw, 7)
    assert str(raised.value) == said
