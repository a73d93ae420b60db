"""``write``, ``edit`` and ``multiedit``. Each changes a file in one move or not at all.

A file that changed since the agent's last read is never touched. Overwriting an existing file also asks for a read
before; an edit does not, because its exact match proves that the agent knows the lines.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.edits import Edited, replace, snippet
from swarmq.agent.tools.missing import no_such_file
from swarmq.agent.tools.text_file import Change, TextFile, apply, load
from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking

MOST_EDITS = 200


class WriteArguments(Arguments):
    file_path: str
    content: str = Field(description="The whole new content.")


class Edit(Arguments):
    old_string: str = Field(description="The exact text to replace, with its indentation.")
    new_string: str
    replace_all: bool = Field(False, description="Replace every occurrence; else there must be exactly one.")


class Target(Arguments):
    file_path: str


class EditArguments(Edit, Target):
    """Fields of the last base come first: models are shown ``file_path`` before the strings."""


class MultieditArguments(Target):
    edits: list[Edit] = Field(min_length=1, max_length=MOST_EDITS, description="Applied in order, all or none.")


async def write(arguments: WriteArguments, context: ToolContext) -> str:
    return await run_blocking(_write, arguments, context)


async def edit(arguments: EditArguments, context: ToolContext) -> str:
    return await run_blocking(_edit, arguments.file_path, [arguments], context)


async def multiedit(arguments: MultieditArguments, context: ToolContext) -> str:
    return await run_blocking(_edit, arguments.file_path, arguments.edits, context)


def _write(arguments: WriteArguments, context: ToolContext) -> str:
    path = context.writable(arguments.file_path)
    shown = context.shown(path)
    try:
        before, status = load(path, shown)
    except FileNotFoundError:
        before, done = TextFile(""), "created"
    else:
        context.stamps.check(path, status, shown)
        if status.st_size and not context.stamps.knows(path):
            raise ToolError(f"{shown} exists and you have not read it; read it first, or use edit")
        done = "replaced"
    content = before.encode(before.like_its_own(arguments.content) if before.crlf else arguments.content)
    store(path, Change(path, content, before.mode), context)
    note = "; its CRLF line ends were kept" if before.crlf else ""
    return f"{done} {shown}: {_lines(arguments.content)}, {len(content):,} bytes{note}"


def _lines(content: str) -> str:
    count = content.count("\n") + (0 if content.endswith("\n") or not content else 1)
    return f"{count:,} line{'' if count == 1 else 's'}"


def _edit(given: str, edits: list[Edit] | list[EditArguments], context: ToolContext) -> str:
    path = context.writable(given)
    shown = context.shown(path)
    try:
        file, status = load(path, shown)
    except FileNotFoundError:
        return _create(path, given, edits, context)
    context.stamps.check(path, status, shown)
    text, made = file.text, []
    for number, one in enumerate(edits, 1):
        try:
            made.append(_replace(file, text, one))
        except ToolError as error:
            which = f"edit {number} of {len(edits)}, so none was made: " if len(edits) > 1 else ""
            raise ToolError(f"{shown}: {which}{error}") from None
        text = made[-1].text
    store(path, Change(path, file.encode(text), file.mode), context)
    count = sum(one.replacements for one in made)
    last = made[-1]
    view = snippet(text, last.line, edits[-1].new_string.count("\n") + 1)
    return f"edited {shown}: {count} replacement{'' if count == 1 else 's'}; it now reads\n{view}"


def _replace(file: TextFile, text: str, one: Edit) -> Edited:
    old, new = file.like_its_own(one.old_string), file.like_its_own(one.new_string)
    if "\r\n" in text and old not in text and old.replace("\n", "\r\n") in text:
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")  # a CRLF part of a file of mixed line ends
    return replace(text, old, new, everywhere=one.replace_all)


def _create(path: Path, given: str, edits: list[Edit] | list[EditArguments], context: ToolContext) -> str:
    """An edit of nothing into something: the way in which some models make a new file."""
    if len(edits) != 1 or edits[0].old_string:
        raise no_such_file(given, context)
    store(path, Change(path, edits[0].new_string.encode()), context)
    return f"created {context.shown(path)}: {_lines(edits[0].new_string)}"


def store(path: Path, change: Change, context: ToolContext) -> None:
    """Write, and remember the result as seen: the agent knows what it has just written."""
    apply([change])
    context.stamps.saw(path, os.stat(path))


WRITE = Tool(
    name="write",
    description="Write a whole file; directories are made as needed. Read an existing file before you replace it.",
    arguments=WriteArguments,
    run=write,
    offered=lambda context: context.may_write,
)

EDIT = Tool(
    name="edit",
    description=(
        "Replace an exact piece of text in a file. old_string must occur exactly once, or set replace_all. Leave out "
        "the line numbers that read shows. Line ends are kept."
    ),
    arguments=EditArguments,
    run=edit,
    offered=lambda context: context.may_write,
)

MULTIEDIT = Tool(
    name="multiedit",
    description="Make several edits of one file, in order, each on the result of the one before; all or none.",
    arguments=MultieditArguments,
    run=multiedit,
    offered=lambda context: context.may_write,
)
