"""Pages of a file by line numbers, in memory that depends on the page and not on the file. Blocking."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

LINE_CHARACTERS = 2_000
_CHUNK_BYTES = 256 * 1024
_LONGEST_READ_BYTES = 64_000_000
"""A page of lines that are this long in all ends early; and beyond it the lines after a page are not counted."""
_LONGEST_WRAPPED_BYTES = 4_000_000
_NUMBER_CHARACTERS = 8
"""Line number, tab and newline."""


@dataclass(frozen=True)
class Page:
    """``total_lines`` is None where counting would cost too much. ``last`` is 0 where there is no such line."""

    text: str
    first: int
    last: int
    more: bool
    total_lines: int | None
    crlf: bool
    invalid_utf8: bool


def read_page(file: BinaryIO, *, offset: int, limit: int, characters: int, wrap: bool = False) -> Page:
    """Lines from ``offset`` (1-based), numbered; at most ``limit`` of them and about ``characters`` in all.

    Lines above 2,000 characters are cut, or with ``wrap`` go on as further lines, so that nothing stays unreadable.
    """
    file.seek(0)
    skipped = _skip_pieces(file, offset - 1) if wrap else _skip_lines(file, offset - 1)
    shown: list[str] = []
    invalid = crlf = False
    room, start_bytes, read_bytes = characters, file.tell(), 0
    for content, length_bytes in _pieces(file) if wrap else _lines(file):
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text, invalid = content.decode("utf-8", "replace"), True
        if text.endswith("\r\n"):
            text, crlf = text[:-2], True
        elif text.endswith("\n"):
            text = text[:-1]
        if len(text) > LINE_CHARACTERS:
            text = f"{text[:LINE_CHARACTERS]}… [line cut, it has {length_bytes:,} bytes]"
        room -= len(text) + _NUMBER_CHARACTERS
        if shown and (len(shown) == limit or room < 0 or read_bytes > _LONGEST_READ_BYTES):
            break
        shown.append(f"{offset + len(shown):>6}\t{text}")
        read_bytes += length_bytes
    if skipped == 0 and shown:
        shown[0] = shown[0].replace("\t\ufeff", "\t", 1)  # a byte order mark is no part of the text
    file.seek(start_bytes + read_bytes)
    rest = _count_rest(file, wrap)
    last = offset + len(shown) - 1 if shown else 0
    return Page(
        text="\n".join(shown),
        first=offset,
        last=last,
        more=rest is None or rest > 0,
        total_lines=None if rest is None else (last or skipped) + rest,
        crlf=crlf,
        invalid_utf8=invalid,
    )


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Lines with their end, and their true length; of a very long one only as much as will be shown."""
    enough = 4 * LINE_CHARACTERS + 1
    while content := file.readline(enough):
        length_bytes = len(content)
        if length_bytes == enough and not content.endswith(b"\n"):
            while piece := file.readline(_CHUNK_BYTES):
                length_bytes += len(piece)
                if piece.endswith(b"\n"):
                    break
            content = content[: enough - _begun_character(content)]
        yield content, length_bytes


def _pieces(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Lines, long ones in pieces of at most 2,000 bytes that end between characters."""
    while content := file.readline(LINE_CHARACTERS + 1):
        if len(content) > LINE_CHARACTERS and not content.endswith(b"\n"):
            back = 1 + _begun_character(content[:-1])
            content = content[:-back]
            file.seek(-back, os.SEEK_CUR)
        yield content, len(content)


def _begun_character(content: bytes) -> int:
    """Bytes of a UTF-8 character at the end of which the rest is missing."""
    for length in (1, 2, 3):
        byte = content[-length]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return length if needed > length else 0
        if byte < 0x80:
            return 0
    return 0


def _skip_lines(file: BinaryIO, count: int) -> int:
    """Move behind that many lines; returns how many there were. Chunks are searched by C code, not line by line."""
    left, ended = count, True
    while left:
        chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            return count - left + (0 if ended else 1)
        ended = chunk.endswith(b"\n")
        found = chunk.count(b"\n")
        if found < left:
            left -= found
            continue
        position = 0
        for _ in range(left):
            position = chunk.index(b"\n", position) + 1
        file.seek(position - len(chunk), os.SEEK_CUR)
        return count
    return count


def _skip_pieces(file: BinaryIO, count: int) -> int:
    return sum(1 for _ in itertools.islice(_pieces(file), count))


def _count_rest(file: BinaryIO, wrap: bool) -> int | None:
    """Lines from here to the end; None where there is too much to count."""
    position = file.tell()
    left_bytes = file.seek(0, os.SEEK_END) - position
    file.seek(position)
    if left_bytes <= 0:
        return 0
    if left_bytes > (_LONGEST_WRAPPED_BYTES if wrap else _LONGEST_READ_BYTES):
        return None
    if wrap:
        return sum(1 for _ in _pieces(file))
    lines, ended = 0, True
    while chunk := file.read(_CHUNK_BYTES):
        lines += chunk.count(b"\n")
        ended = chunk.endswith(b"\n")
    return lines if ended else lines + 1
