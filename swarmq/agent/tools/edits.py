"""Exact replacement in a text, and what to say where nothing matches. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from swarmq.errors import ToolError

_SHOWN_MATCHES = 5
_SHOWN_LINES = 12
_COMPARED_LINES = 50_000
_SNIPPET_AROUND = 3
_LINE_CHARACTERS = 300
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Edited:
    """``line`` is the first changed line, 1-based, in the new text."""

    text: str
    replacements: int
    line: int


def replace(text: str, old: str, new: str, *, everywhere: bool) -> Edited:
    """Raises ToolError unless ``old`` occurs exactly once, or at least once with ``everywhere``."""
    if not old:
        raise ToolError("old_string is empty; write replaces a whole file")
    if old == new:
        raise ToolError("old_string and new_string are the same; nothing would change")
    count = text.count(old)
    if count == 0:
        raise ToolError(f"old_string was not found\n{nearest(text.split(chr(10)), old.split(chr(10)))}")
    if count > 1 and not everywhere:
        raise ToolError(
            f"old_string occurs {count} times, at lines {_places(text, old)}; give more of the lines around the one "
            "that you mean, or set replace_all"
        )
    line = text.count("\n", 0, text.index(old)) + 1
    return Edited(text.replace(old, new), count, line)


def _places(text: str, old: str) -> str:
    lines: list[str] = []
    position = -1
    for _ in range(_SHOWN_MATCHES):
        position = text.find(old, position + 1)
        if position < 0:
            return ", ".join(lines)
        lines.append(str(text.count("\n", 0, position) + 1))
    return ", ".join(lines) + ", …"


def nearest(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """The lines that most resemble the wanted ones, numbered; says so where only white space differs."""
    wanted = _without_blank_ends(wanted)
    start = _same_but_spaces(lines, wanted)
    if start is not None:
        return f"these lines differ only in white space:\n{numbered(lines, start, len(wanted))}"
    start = _most_alike(lines, wanted)
    if start is None:
        return "no line of the file is like it; read the file again"
    return f"the nearest lines are:\n{numbered(lines, start, len(wanted))}"


def numbered(lines: Sequence[str], start: int, count: int) -> str:
    """Some lines with their numbers, as ``read`` shows them; ``start`` is 0-based."""
    end = min(start + min(count, _SHOWN_LINES), len(lines))
    return "\n".join(f"{index + 1:>6}\t{lines[index][:_LINE_CHARACTERS]}" for index in range(max(start, 0), end))


def snippet(text: str, line: int, new_lines: int) -> str:
    """What a changed place looks like now, with three lines before and after."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    start = max(line - 1 - _SNIPPET_AROUND, 0)
    return numbered(lines, start, line - 1 - start + new_lines + _SNIPPET_AROUND)


def _without_blank_ends(lines: Sequence[str]) -> Sequence[str]:
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else lines[:1]


def _same_but_spaces(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    plain = [" ".join(line.split()) for line in lines[:_COMPARED_LINES]]
    target = [" ".join(line.split()) for line in wanted]
    for index, line in enumerate(plain):
        if line == target[0] and plain[index : index + len(target)] == target:
            return index
    return None


def _most_alike(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """By the words of the wanted line that has most of them: cheap, and blind to indentation and punctuation."""
    place, words = max(enumerate(set(_WORD.findall(line)) for line in wanted), key=lambda pair: len(pair[1]))
    best, best_score = None, 0.3
    for index, line in enumerate(lines[:_COMPARED_LINES]):
        found = set(_WORD.findall(line[:_LINE_CHARACTERS]))
        score = len(words & found) / max(len(words | found), 1)
        if score > best_score:
            best, best_score = index, score
    return None if best is None else max(best - place, 0)
