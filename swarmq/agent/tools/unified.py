"""Unified diffs: parsing what models write, and applying it to lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unidiff.errors import UnidiffParseError
from unidiff.patch import Hunk, PatchedFile, PatchSet

from swarmq.agent.tools.edits import nearest
from swarmq.errors import ToolError

MAX_PATCH_CHARACTERS = 1_000_000
MAX_HEADER_CHARACTERS = 1_000
"""unidiff's patterns for header lines take cubic time; longer ones cannot name a file anyway."""

_HUNK = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)$")
_SIGNATURE = re.compile(r"^\d+(\.\d+)+")
_NO_NEWLINE = "\\"
DEV_NULL = "/dev/null"


def parse(text: str) -> list[PatchedFile]:
    """The files of a patch. Raises ToolError where it is no unified diff, or holds what a tool cannot apply."""
    if len(text) > MAX_PATCH_CHARACTERS:
        raise ToolError(f"the patch has {len(text):,} characters, {MAX_PATCH_CHARACTERS:,} is the limit")
    try:
        files = list(PatchSet(recounted(text)))
    except UnidiffParseError as error:
        raise ToolError(f"the patch cannot be parsed: {str(error).strip()[:200]}") from None
    if not files:
        raise ToolError(
            "the patch has no file; it must be a unified diff with '--- a/FILE', '+++ b/FILE' and '@@' lines"
        )
    return files


def recounted(text: str) -> str:
    """The patch with the line counts of its hunks put right: models miscount them, and the lines say it themselves."""
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    out: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if not line.startswith("@@"):
            _check_header(line)
            out.append(line)
            continue
        header = _HUNK.match(line)
        if header is None:
            raise ToolError(f"{line[:80]!r} has no line numbers; a hunk begins with '@@ -LINE,COUNT +LINE,COUNT @@'")
        end = _counted_end(lines, index, int(header[2] or 1), int(header[4] or 1)) or _end_of_hunk(lines, index)
        body = [one or " " for one in lines[index:end]]
        source = sum(one[0] in " -" for one in body)
        target = sum(one[0] in " +" for one in body)
        out.append(f"@@ -{header[1]},{source} +{header[3]},{target} @@{header[5]}")
        out += body
        index = end
    return "\n".join(out) + "\n"


def _check_header(line: str) -> None:
    if line.startswith(("Binary files ", "Binary file ", "GIT binary patch")):
        raise ToolError("the patch changes a binary file; only text can be patched")
    if len(line) > MAX_HEADER_CHARACTERS:
        raise ToolError(f"the patch has a line of {len(line):,} characters outside its hunks: {line[:60]!r}…")


def _counted_end(lines: Sequence[str], start: int, source: int, target: int) -> int | None:
    """Where the hunk ends by the counts of its header; None where they are wrong, as far as that can be seen.

    They tell what nothing else does: a removed line ``-- a`` and an added one ``++ b`` look like the head of a file.
    """
    end = start
    while source > 0 or target > 0:
        sign = (lines[end] or " ")[0] if end < len(lines) else ""
        if sign not in (" ", "-", "+", "\\"):
            return None
        source -= sign in (" ", "-")
        target -= sign in (" ", "+")
        end += 1
    if source or target:
        return None
    if end < len(lines) and lines[end].startswith("\\"):
        end += 1
    follows = lines[end] if end < len(lines) else ""
    is_over = not follows or follows[0] not in " +-" or _ends_hunk(lines, end)
    return end if is_over else None


def _end_of_hunk(lines: Sequence[str], start: int) -> int:
    end = start
    while end < len(lines) and not _ends_hunk(lines, end):
        end += 1
    while end > start and lines[end - 1] == "":  # blank lines between the parts of a patch, not lines of the file
        end -= 1
    return end


def _ends_hunk(lines: Sequence[str], index: int) -> bool:
    line = lines[index]
    if line and line[0] not in " +-\\":
        return True
    following = [*lines[index + 1 : index + 3], "", ""]
    if line.startswith("--- ") and following[0].startswith("+++ "):
        return following[1].startswith("@@") or following[1] == ""
    # The end of what git format-patch writes: a line "-- ", then git's version.
    return line == "-- " and len(lines) - index <= 4 and _SIGNATURE.match(following[0]) is not None


@dataclass(frozen=True)
class Applied:
    """``moved`` says, per hunk, by how many lines its place differed from the header's."""

    text: str
    moved: tuple[int, ...]


def apply_hunks(text: str, hunks: Sequence[Hunk]) -> Applied:
    """Every hunk at the place it names, or at the only other place where its lines are. Raises ToolError."""
    lines = text.split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    out: list[str] = []
    done = drift = 0
    moved = []
    for number, hunk in enumerate(hunks, 1):
        source, target, source_ended, target_ended = _sides(hunk)
        named = max(hunk.source_start - (1 if source else 0), 0)
        place = _find(lines, source, named + drift, done, number, len(hunks))
        drift = place - named
        moved.append(drift)
        out += lines[done:place]
        out += target
        done = place + len(source)
        if done >= len(lines) and (source_ended != target_ended):
            ended = target_ended
    out += lines[done:]
    return Applied("\n".join(out) + ("\n" if ended and out else ""), tuple(moved))


def _sides(hunk: Hunk) -> tuple[list[str], list[str], bool, bool]:
    """Old lines, new lines, and for both whether the last one ends with a newline."""
    source, target = [], []
    source_ended = target_ended = True
    before = " "
    for line in hunk:
        value = line.value.removesuffix("\n")
        if line.line_type == _NO_NEWLINE:
            source_ended = source_ended and before == "+"
            target_ended = target_ended and before == "-"
            continue
        before = line.line_type or " "
        if not line.line_type:
            continue  # an empty line after the hunk, which unidiff hangs on to it
        if line.is_context or line.is_removed:
            source.append(value)
        if line.is_context or line.is_added:
            target.append(value)
    return source, target, source_ended, target_ended


def _find(lines: Sequence[str], source: list[str], expected: int, first: int, number: int, of: int) -> int:
    which = f"hunk {number} of {of}"
    if not source:
        if expected > len(lines):
            raise ToolError(f"{which} adds after line {expected}, and there are {len(lines)} lines")
        return max(expected, first)
    if expected >= first and lines[expected : expected + len(source)] == source:
        return expected
    size = len(source)
    places = [
        index
        for index in range(first, len(lines) - size + 1)
        if lines[index] == source[0] and lines[index : index + size] == source
    ]
    if len(places) == 1:
        return places[0]
    if places:
        shown = ", ".join(str(place + 1) for place in places[:5])
        raise ToolError(f"{which}: its lines are not at line {expected + 1} but at several places, {shown}; name one")
    raise ToolError(f"{which} does not apply, its old lines are not in the file\n{nearest(lines, source)}")
