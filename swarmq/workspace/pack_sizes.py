"""How much a pack is once git has taken it apart, found before git does so. For packs from elsewhere.

A gigabyte of zeros is a megabyte in a pack. git holds an object whole, several times over while it resolves deltas, and
the files that are made of it have their full size: a small pack could take the memory and the disk of who receives it.
The format is that of git's gitformat-pack(5).
"""

from __future__ import annotations

import zlib

from swarmq.errors import WorkspaceError
from swarmq.workspace.staging import MAX_FILE_BYTES

MAX_OBJECTS_BYTES = 1024 * 1024 * 1024
"""Of all objects of one pack: ten of the largest files that a commit may have."""
_HEADER_BYTES = 12
_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7
_CHUNK_BYTES = 64 * 1024
_LITTLE_BYTES = 64
"""More than what zlib adds to something small."""
_LONGEST_BITS = 64


def check_sizes(pack: bytes, id_bytes: int) -> None:
    """WorkspaceError for a pack with an object above 100 MiB, with more than 1 GiB in all, or that is none.

    Costs what inflating it costs, in constant memory. ``id_bytes``: 20 where ids are SHA-1, 32 where SHA-256. Blocking.
    """
    count, at, total = int.from_bytes(pack[8:_HEADER_BYTES], "big"), _HEADER_BYTES, 0
    try:
        for _ in range(count):
            size, at = _object(pack, at, id_bytes)
            total += size
            if total > MAX_OBJECTS_BYTES:
                raise WorkspaceError(f"a pack whose objects have more than {MAX_OBJECTS_BYTES:,} bytes is refused")
    except (IndexError, zlib.error):
        raise WorkspaceError("a pack that is torn or malformed is refused") from None


def _object(pack: bytes, at: int, id_bytes: int) -> tuple[int, int]:
    """The size of the object there, and where the next one begins."""
    kind = pack[at] >> 4 & 7
    size, at = _number(pack, at, 4)
    _allow(size)
    if kind == _OFFSET_DELTA:
        while pack[at] & 0x80:
            at += 1
        at += 1
    elif kind == _REFERENCE_DELTA:
        at += id_bytes
    begin, at = _inflate(pack, at, size)
    if kind in (
        _OFFSET_DELTA,
        _REFERENCE_DELTA,
    ):  # it begins with the sizes of what it changes and of what that becomes
        _, after = _number(begin, 0, 7)
        made, _ = _number(begin, after, 7)
        _allow(made)
        size += made
    return size, at


def _allow(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise WorkspaceError(f"a pack with an object of {size:,} bytes is refused, {MAX_FILE_BYTES:,} is the limit")


def _number(data: bytes, at: int, first_bits: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, of which the first byte may have fewer; and where it ends."""
    value, shift = data[at] & ((1 << first_bits) - 1), first_bits
    while data[at] & 0x80:
        at += 1
        value |= (data[at] & 0x7F) << shift
        shift += 7
        if shift > _LONGEST_BITS:
            raise IndexError
    return value, at + 1


def _inflate(pack: bytes, at: int, size: int) -> tuple[bytes, int]:
    """The first bytes of a compressed stream, and where it ends. It must not be longer than it claims to be."""
    stream, begin, found = zlib.decompressobj(), b"", 0
    while not stream.eof:
        given = pack[at : at + min(_CHUNK_BYTES, size + _LITTLE_BYTES)]
        made = stream.decompress(given, _CHUNK_BYTES)
        begin = begin or made
        found += len(made)
        used = len(given) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
        at += used
        if found > size or (not made and not used):
            raise zlib.error
    return begin, at
