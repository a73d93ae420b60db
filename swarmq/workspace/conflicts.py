"""What a conflict is, in words for who resolves it, and what is left of it in files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from swarmq.workspace.git import shown
from swarmq.workspace.merge_tree import MergedTree, Message, Stage

MERGED_BEFORE = "merged-before"
THIS_SUBTASK = "this-subtask"
"""What the two sides are called: ref names, as git writes those into markers, so without spaces."""
DESCRIBED = 100
"""Conflicts beyond these are only counted: the text goes into a prompt."""
MARKER_SIZE = 7
_LEFTOVER = re.compile(rf"~({MERGED_BEFORE}|{THIS_SUBTASK})(_\d+)?(/|$)")
_NAMED_MARKER = re.compile(rf"<{{3,}} {MERGED_BEFORE}(:.*)?|>{{3,}} {THIS_SUBTASK}(:.*)?".encode())
_EITHER = (
    f"`git show {MERGED_BEFORE}:PATH` and `git show {THIS_SUBTASK}:PATH` print a file of either side, "
    f"`git log -p ..{THIS_SUBTASK}` what this subtask did."
)
_HINTS = {
    "CONFLICT (contents)": (
        f"Both sides are in the file, between `<<<<<<< {MERGED_BEFORE}` and `>>>>>>> {THIS_SUBTASK}`; "
        "what they started from is behind `|||||||`."
    ),
    "CONFLICT (binary)": f"The file is that of {MERGED_BEFORE}; `git checkout {THIS_SUBTASK} -- PATH` takes the other.",
    "CONFLICT (modify/delete)": "The file is there as the side left it that did not delete it: keep it or delete it.",
    "CONFLICT (rename/delete)": "The file is there under its new name: keep it or delete it.",
    "CONFLICT (rename/rename)": "Decide for one name, and delete the file under the other.",
    "CONFLICT (file/directory)": "The file is there under the other name: decide where it belongs.",
    "CONFLICT (distinct modes)": "Both are there, one of them under another name: decide which one it is to be.",
    "CONFLICT (submodule)": f"The submodule stays at the commit of {MERGED_BEFORE}; a swarm cannot move it.",
}


def describe(merged: MergedTree) -> str:
    """All conflicts, one after the other, with the state of the files and what there is to decide.

    File names come from agents: each is kept on one line.
    """
    told = _told(merged)
    sides = {(stage.name, stage.number): stage for stage in merged.stages}
    entries = [_entry(message, sides) for message in told[:DESCRIBED]]
    if len(told) > DESCRIBED:
        entries.append(f"- and {len(told) - DESCRIBED} more")
    files = len(merged.conflicts)
    head = f"Merging {THIS_SUBTASK} with what was merged before leaves conflicts in {files} file{'s'[: files != 1]}:"
    return "\n".join([head, *entries, "", _EITHER])


def _told(merged: MergedTree) -> list[Message]:
    """git says of a binary file twice that it conflicts."""
    told = [message for message in merged.messages if message.kind.startswith("CONFLICT")]
    binary = {message.names for message in told if message.kind == "CONFLICT (binary)"}
    return [message for message in told if message.kind != "CONFLICT (contents)" or message.names not in binary]


def _entry(message: Message, sides: Mapping[tuple[str, int], Stage]) -> str:
    text = message.text.removeprefix("warning: ")
    hint = _HINTS.get(message.kind, "")
    one, other = sides.get((message.names[0], 2)), sides.get((message.names[0], 3))
    if one is not None and other is not None and one.mode != other.mode and message.kind == "CONFLICT (contents)":
        modes = f"Its mode is {one.mode[-3:]} in {MERGED_BEFORE} and {other.mode[-3:]} in {THIS_SUBTASK}."
        hint = modes if one.blob == other.blob else f"{hint} {modes}"
    return f"- {_line(text.removeprefix('CONFLICT '))} {hint}".rstrip()


def _line(text: str) -> str:
    return shown(text).replace("\n", "\\n")


def left_over(name: str) -> bool:
    """Whether a file still has the name under which git put one side of a conflict."""
    return _LEFTOVER.search(name) is not None


class Sides:
    """What the sides of a merge hold that looks like markers: fixtures of tests, underlined headings."""

    def __init__(self, contents: Iterable[bytes]) -> None:
        self._lines: set[bytes] = set()
        self._after: set[tuple[bytes, bytes]] = set()
        for content in contents:
            lines = _lines(content)
            marked = [number for number, line in enumerate(lines) if line[:1] in b"<|=>" and line]
            self._lines.update(lines[number] for number in marked)
            self._after.update((lines[number - 1] if number else b"", lines[number]) for number in marked)

    def leaves_markers(self, content: bytes, size: int = MARKER_SIZE, *, conflicted: bool = True) -> bool:
        """Whether a file has lines of conflict markers that no side has.

        A line of ``=`` may be an underline as well: it counts where no side has it below the same line. In a file that
        did not conflict only those with the names of our sides count: an agent may have written about conflicts.
        """
        if not conflicted:
            return any(_NAMED_MARKER.fullmatch(line) and line not in self._lines for line in _lines(content))
        marker = re.compile(rb"(?:<{%d,}|>{%d,}|\|{%d,})(?: .*)?" % (size, size, size))
        separator = b"=" * size
        before = b""
        for line in _lines(content):
            if marker.fullmatch(line) and line not in self._lines:
                return True
            if line == separator and (before, line) not in self._after:
                return True
            before = line
        return False


def _lines(content: bytes) -> Sequence[bytes]:
    return [line.removesuffix(b"\r") for line in content.split(b"\n")]
