"""Making a payload small enough: what the agent's context would not keep anyway is left out first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.errors import PodError
from swarmq.models.messages import Message, Part, Text, Thinking, ToolResult
from swarmq.models.transcript import Entry
from swarmq.pod.payload import Payload, encode

KEPT_ENTRIES = 6
"""The newest entries, which an agent goes on from, are cut last."""
ROUNDS_CHARACTERS = (6_000, 2_000, 500, 100)
"""What is left of each tool result; the context itself cuts older ones to 6,000 characters when it is full."""
_CUT = "\n[... {:,} characters left out ...]\n"


def encode_fitting(payload: Payload) -> bytes:
    """The bytes of the payload, its transcript cut as far as need be. PodError where that does not help."""
    try:
        return encode(payload)
    except PodError:
        if not payload.entries and not payload.adopted:
            raise
    for characters in ROUNDS_CHARACTERS[:-1]:
        try:
            return encode(trimmed(payload, characters, spared=KEPT_ENTRIES))
        except PodError:
            continue
    return encode(trimmed(payload, ROUNDS_CHARACTERS[-1], spared=0))


def trimmed(payload: Payload, characters: int, *, spared: int) -> Payload:
    """The same payload with long texts of its transcript cut. Numbers of entries, and what they count, stay."""
    cut = {
        "entries": _entries(payload.entries, characters, spared),
        "adopted": _entries(payload.adopted, characters, 0 if payload.entries else spared),
    }
    return payload.model_copy(update=cut)


def _entries(entries: Sequence[Entry], characters: int, spared: int) -> tuple[Entry, ...]:
    keep_from = len(entries) - spared
    return tuple(
        entry if number >= keep_from else entry.model_copy(update={"message": _message(entry.message, characters)})
        for number, entry in enumerate(entries)
    )


def _message(message: Message, characters: int) -> Message:
    parts = tuple(_part(part, characters) for part in message.parts if not isinstance(part, Thinking))
    return message.model_copy(update={"parts": parts or message.parts})


def _part(part: Part, characters: int) -> Part:
    """A tool call stays as it is: its arguments are JSON, and belong to its result."""
    if isinstance(part, ToolResult):
        return part.model_copy(update={"content": _shortened(part.content, characters)})
    if isinstance(part, Text):
        return part.model_copy(update={"text": _shortened(part.text, max(characters, 2_000))})
    return part


def _shortened(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    head, tail = text[: characters * 2 // 3], text[len(text) - characters // 3 :]
    return head + _CUT.format(len(text) - len(head) - len(tail)) + tail
