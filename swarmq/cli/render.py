"""What all commands print with: stdout carries data, stderr progress; no ANSI off a terminal.

Texts of models and repositories go through ``plain`` before they reach a terminal: a control sequence in a
transcript could otherwise rewrite the screen or the clipboard.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "succeeded": "green",
    "merged": "green",
    "completed": "green",
    "ok": "green",
    "done": "green",
    "running": "cyan",
    "finishing": "cyan",
    "planning": "cyan",
    "partial": "yellow",
    "warn": "yellow",
    "blocked": "yellow",
    "cancelled": "yellow",
    "paused": "yellow",
    "conflict": "magenta",
    "failed": "red",
    "fail": "red",
    "timed_out": "red",
    "max_steps": "red",
    "budget_exhausted": "red",
}
"""How a state is shown on a terminal."""

TEXT_CHARACTERS = 24
"""To how few characters the last column of a table is cut, where the table says nothing else."""

# C0 but tab and newline, DEL, C1, and the bidirectional overrides that make text read other than it is.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text without characters that a terminal would obey."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n"))


def one_line(text: str, characters: int = 100) -> str:
    """The text on one line, cut to ``characters``."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= characters else line[: characters - 1] + "…"


def duration(seconds: float) -> str:
    """A time span in the unit that a person would use."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def ago(at: float, now: float | None = None) -> str:
    """How long a Unix time is past; a dash for "never"."""
    if not at:
        return "-"
    return f"{duration(max(0.0, (time.time() if now is None else now) - at))} ago"


def clock(at: float) -> str:
    """A Unix time as local hours, minutes and seconds."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def count(number: int, noun: str) -> str:
    """``1 step``, ``1,500 steps``."""
    plural = noun[:-2] + "ches" if noun.endswith("ch") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def usd(cost_usd: float | None) -> str:
    """Money; to a hundredth of a cent where it is little."""
    if cost_usd is None:
        return "unknown: no price is known for the model"
    return f"${cost_usd:,.2f}" if cost_usd >= 1 or not cost_usd else f"${cost_usd:.4f}"


def write(text: str = "") -> None:
    """One piece of data on stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line of progress or advice on stderr, seen at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the stream; Python has None for one that was closed before it started."""
    return stream is not None and not stream.closed and stream.isatty()


def may_ask() -> bool:
    """Prompts only where a person can see and answer them; they go to stderr, since stdout is data."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def console(stream: TextIO) -> Console:
    """A rich console on that stream that prints texts as they are. NO_COLOR switches all styles off."""
    from rich.console import Console

    made = Console(file=stream, highlight=False, markup=False, emoji=False)
    if made.no_color:
        made = Console(file=stream, highlight=False, markup=False, emoji=False, color_system=None)
    return made


def emit_json(value: Any, *, line: bool = False) -> None:
    """One JSON value on stdout; indented for people, on one line otherwise or with ``line`` (NDJSON)."""
    import orjson

    pretty = orjson.OPT_INDENT_2 if is_terminal(sys.stdout) and not line else 0
    sys.stdout.write(orjson.dumps(value, default=_as_json, option=pretty | orjson.OPT_NON_STR_KEYS).decode() + "\n")
    if line:
        sys.stdout.flush()


def _as_json(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    least: Mapping[str, int] | None = None,
    spare: Sequence[str] = (),
    to: TextIO | None = None,
) -> None:
    """Rows under headers. On a terminal they are fitted to its width; elsewhere nothing is cut or left out.

    ``least``: the columns of free text, and to how many characters each may be cut; the last column unless named.
    ``spare``: what is left out where that is not enough, the least important first. ``to`` is stdout unless named.
    """
    stream = sys.stdout if to is None else to
    lines = [[plain(cell) for cell in row] for row in rows]
    if is_terminal(stream):
        _rich_table(headers, lines, {headers[-1]: TEXT_CHARACTERS} if least is None else least, spare, stream)
        return
    widths = [max(map(len, column)) for column in zip(headers, *lines, strict=True)]
    for line in (list(headers), *lines):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        stream.write("  ".join(padded).rstrip() + "\n")


def _rich_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    least: Mapping[str, int],
    spare: Sequence[str],
    stream: TextIO,
) -> None:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    from swarmq.cli.columns import GAP_CHARACTERS, fit

    out = console(stream)
    columns = dict(zip(headers, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(headers, ())
    widths = {header: max(map(cell_len, (header, *cells))) for header, cells in columns.items()}
    fitted = fit(widths, out.width, least, spare)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP_CHARACTERS, 0, 0))
    for header, width in fitted.items():
        made.add_column(header, width=width, no_wrap=True, overflow="ellipsis")
    for cells in zip(*(columns[header] for header in fitted), strict=True):
        made.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    # What has no room is broken by the terminal rather than cut by us: an id can still be read and copied.
    out.width = max(out.width, sum(fitted.values()) + GAP_CHARACTERS * len(fitted))
    out.print(made, crop=False)


def pairs(values: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line, on stdout."""
    width = max((len(name) for name, _ in values), default=0)
    for name, value in values:
        write(f"{name.ljust(width)}  {plain(value)}".rstrip())
