"""Text for a model: valid Unicode without control characters, and no longer than allowed. Pure."""

from __future__ import annotations

import re

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TERMINAL_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\^_])")
_REPLACEMENT = "\ufffd"


def safe(text: str) -> str:
    """Control characters (but tab and newline) as their pictures, other code points that no UTF-8 may hold replaced.

    The length stays the same, so a bounded text stays bounded.
    """
    return _UNSAFE.sub(_picture, text) if _UNSAFE.search(text) else text


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else _REPLACEMENT


def printed(text: str) -> str:
    """What a terminal would leave to see: no colour codes, and of a line written over only its last state."""
    if "\x1b" in text:
        text = _TERMINAL_SEQUENCE.sub("", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text


def head_and_tail(text: str, characters: int, gap: str) -> str:
    """At most ``characters`` of the text, cut at line ends where there are any, around the line ``gap``.

    ``{}`` in ``gap`` becomes the number of characters that are left out. The gap comes on top of the limit.
    """
    if len(text) <= characters:
        return text
    head, tail = text[: characters // 2], text[-(characters // 2) :]
    head = head[: head.rfind("\n") + 1] or head
    start = tail.find("\n") + 1
    if 0 < start < len(tail):
        tail = tail[start:]
    line_end = "" if head.endswith("\n") else "\n"
    return f"{head}{line_end}{gap.format(f'{len(text) - len(head) - len(tail):,}')}\n{tail}"
