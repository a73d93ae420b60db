"""A growing JSON array that is sent again and again without being copied."""

from __future__ import annotations

BLOCK_BYTES = 256 * 1024
"""Fragments are joined into blocks of about this size: few enough to send, each copied only once."""


class Fragments:
    """Serialised elements: old ones joined in ``blocks``, the newest still apart in ``recent``."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._recent_bytes = 0
        self.recent: list[bytes] = []

    def append(self, fragment: bytes) -> None:
        self.recent.append(fragment)
        self._recent_bytes += len(fragment)

    def clear(self) -> None:
        self._blocks.clear()
        self.recent.clear()
        self._recent_bytes = 0

    def fold(self, keep: int) -> int:
        """Join all but the last ``keep`` recent fragments into a block, once that is worth it; returns how many."""
        old = self.recent[: max(0, len(self.recent) - keep)] if self._recent_bytes >= BLOCK_BYTES else []
        old_bytes = sum(map(len, old))
        if old_bytes < BLOCK_BYTES:
            return 0
        self._blocks.append(self._join(old))
        del self.recent[: len(old)]
        self._recent_bytes -= old_bytes
        return len(old)

    def body(self, head: bytes, recent: list[bytes], tail: bytes) -> list[bytes]:
        """The chunks of a request: head, all elements, tail. ``recent`` stands for the fragments of that name."""
        newest = self._join(recent) + tail
        return [head, *self._blocks, newest] if self._blocks else [head + newest]

    def _join(self, fragments: list[bytes]) -> bytes:
        """With a comma before the first one where others stand before it."""
        return b",".join([b"", *fragments] if self._blocks and fragments else fragments)
