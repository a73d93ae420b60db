"""Whole lines out of a log that is read in pieces, over several connections. Pure.

The node puts a time before each line. A new connection can ask for the log from a full second on only, so its beginning
repeats what is known: lines up to the last known time are skipped, and of those at that time as many as are known. What
has no time is the end of a line whose beginning lies before that second, or a message of the node itself; neither is a
line of the agent.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

MAX_LINE_BYTES = 4 << 20
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


class LogLines:
    """Fed with what connections bring; remembers where it is between them."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = b""
        self._oversized = False
        self._stamp, self._at_stamp = b"", 0
        """The time of the last line that was given out, as the node wrote it, and how many have had that time."""
        self._last_ns = 0
        self._known = 0
        """How many lines of the last known time this connection has to repeat; -1 when it is past them."""
        self.left_out = 0
        """Lines that were too long."""

    @property
    def rest(self) -> bytes:
        """The beginning of a line that this connection has brought so far."""
        return self._rest

    def connected(self) -> None:
        """What comes next is from a new connection, opened with ``since``."""
        self._rest, self._oversized = b"", False
        self._known = self._at_stamp if self._stamp else -1
        self._last_ns = _nanoseconds(self._stamp) if self._stamp else 0

    @property
    def since(self) -> str | None:
        """For ``sinceTime``: the second of the last line; None for the whole log."""
        if not self._stamp:
            return None
        return datetime.fromtimestamp(_nanoseconds(self._stamp) // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def feed(self, piece: bytes) -> list[str]:
        """The lines that are new and complete with this piece."""
        *whole, rest = (self._rest + piece).split(b"\n") if b"\n" in piece else (self._rest + piece,)
        if self._oversized and whole:
            whole, self._oversized = whole[1:], False
        lines = [line for raw in whole if (line := self._take(raw)) is not None]
        if self._oversized or len(rest) > self._max_line_bytes:
            self.left_out += not self._oversized
            self._oversized, rest = True, b""
        self._rest = rest
        return lines

    def finish(self) -> list[str]:
        """The log is at its end: what has no end of line is its last line."""
        rest, self._rest = self._rest, b""
        line = self._take(rest) if rest and not self._oversized else None
        return [] if line is None else [line]

    def _take(self, raw: bytes) -> str | None:
        match = _STAMP.match(raw)
        if match is None:
            return None
        stamp = match.group()
        if self._known >= 0:
            nanoseconds = _nanoseconds(stamp)
            if nanoseconds < self._last_ns:
                return None
            if nanoseconds == self._last_ns:
                self._known -= 1
                if self._known >= 0:
                    return None
            self._known = -1
        if len(raw) - len(stamp) > self._max_line_bytes:
            self.left_out += 1
            return None
        self._at_stamp = self._at_stamp + 1 if stamp == self._stamp else 1
        self._stamp = stamp
        return raw[len(stamp) :].decode(errors="replace")


def _nanoseconds(stamp: bytes) -> int:
    match = _STAMP.match(stamp)
    assert match is not None
    second, fraction, zone = (part or b"" for part in match.groups())
    moment = datetime.fromisoformat((second + zone.replace(b"Z", b"+00:00")).decode())
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, b"0") or 0)
