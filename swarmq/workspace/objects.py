"""Many files' contents from one git process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from swarmq.errors import WorkspaceError
from swarmq.workspace.git import GitAt

READ_BYTES = 20 * 1024 * 1024
"""Larger files are not read: nobody writes attributes or resolves conflicts by hand in one."""
TOTAL_BYTES = 64 * 1024 * 1024
"""Of all together, the smallest first: what came in a small pack may be gigabytes of repeated lines."""


def read_blobs(git: GitAt, blobs: Iterable[str]) -> dict[str, bytes]:
    """The contents of blobs, by id, up to 20 MB each and 64 MB in all. WorkspaceError where one is missing."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return {}
    sizes = git.run("cat-file", "--batch-check", stdin=_lines(wanted)).stdout.splitlines()
    by_size = sorted(zip(map(_size_bytes, sizes), wanted, strict=True))
    totals = itertools.accumulate(size for size, _ in by_size)
    small = [
        blob for (size, blob), total in zip(by_size, totals, strict=True) if size <= READ_BYTES and total <= TOTAL_BYTES
    ]
    stream = git.run("cat-file", "--batch", stdin=_lines(small)).stdout
    contents: dict[str, bytes] = {}
    position = 0
    for blob in small:
        head_end = stream.index(b"\n", position)
        end = head_end + 1 + _size_bytes(stream[position:head_end])
        contents[blob] = stream[head_end + 1 : end]
        position = end + 1
    return contents


def _lines(blobs: list[str]) -> bytes:
    return "".join(f"{blob}\n" for blob in blobs).encode()


def _size_bytes(line: bytes) -> int:
    """From ``<id> blob <size>``."""
    fields = line.split(b" ")
    if len(fields) != 3 or fields[1] != b"blob":
        raise WorkspaceError(f"git cat-file: {line.decode('utf-8', 'replace')}")
    return int(fields[2])
