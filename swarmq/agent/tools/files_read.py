"""``read`` and ``list``: what a branch may look at, in pages."""

from __future__ import annotations

import codecs
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from pydantic import Field

from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.missing import no_such_file
from swarmq.agent.tools.outputs import SCHEME
from swarmq.agent.tools.pages import Page, read_page
from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking

READ_LINES = 2_000
READ_CHARACTERS = 50_000
READ_MAX_BYTES = 1 << 30
LISTED = 1_000
_SNIFFED_BYTES = 8_192
_AT_ONCE_BYTES = 256 * 1024


class ReadArguments(Arguments):
    file_path: str = Field(description="Path in the working directory, or output://ID of an output that was cut.")
    offset: int = Field(1, ge=0, description="First line, from 1.")
    limit: int = Field(READ_LINES, ge=1, description="Number of lines, at most 2,000.")


class ListArguments(Arguments):
    path: str = Field(".", description="Directory; the working directory if left out.")


async def read(arguments: ReadArguments, context: ToolContext) -> str:
    return await run_blocking(_read, arguments, context)


async def list_directory(arguments: ListArguments, context: ToolContext) -> str:
    return await run_blocking(_list, arguments.path, context)


def _read(arguments: ReadArguments, context: ToolContext) -> str:
    given, offset, limit = arguments.file_path, max(arguments.offset, 1), min(arguments.limit, READ_LINES)
    if given.startswith(SCHEME):
        with open(context.saved.find(given), "rb") as output:
            return _shown(read_page(output, offset=offset, limit=limit, characters=READ_CHARACTERS, wrap=True), [])
    path = context.readable(given)
    opened = _open(path, given, context)
    if opened is None:
        return list_entries(path, context)
    file, status = opened
    with file:
        _refuse_binary(file.read(_SNIFFED_BYTES), given)
        page = read_page(file, offset=offset, limit=limit, characters=READ_CHARACTERS)
    context.stamps.saw(path, status)
    notes = []
    if page.crlf:
        notes.append("line ends are CRLF; edits keep them")
    if page.invalid_utf8:
        notes.append("not all of it is valid UTF-8, other bytes are shown as \ufffd")
    return _shown(page, notes)


def _open(path: Path, given: str, context: ToolContext) -> tuple[BinaryIO, os.stat_result] | None:
    """The regular file, or None for a directory. Never waits for the other end of a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise no_such_file(given, context) from None
    except NotADirectoryError:
        raise ToolError(f"{given}: a part of the path is a file") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and _AT_ONCE_BYTES < status.st_size <= READ_MAX_BYTES:
        return open(descriptor, "rb", buffering=32 * 1024), status
    try:
        if stat.S_ISREG(status.st_mode) and status.st_size <= _AT_ONCE_BYTES:
            return io.BytesIO(os.read(descriptor, _AT_ONCE_BYTES)), status  # few system calls, for most files
    finally:
        os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        return None
    if stat.S_ISREG(status.st_mode):
        raise ToolError(f"{given} has {status.st_size:,} bytes; read takes files of up to {READ_MAX_BYTES:,}")
    raise ToolError(f"{given} is neither a file nor a directory")


def _refuse_binary(start: bytes, given: str) -> None:
    if b"\0" not in start:
        return
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ToolError(f"{given} is UTF-16, not UTF-8; convert a copy to read it, for example with iconv")
    raise ToolError(f"{given} is a binary file; it is not shown")


def _shown(page: Page, notes: list[str]) -> str:
    if not page.text and not page.more:
        if page.total_lines:
            raise ToolError(f"line {page.first} is beyond the end, there are {page.total_lines} lines")
        return "(empty)"
    if page.more or page.first > 1:
        of = f" of {page.total_lines}" if page.total_lines is not None else ""
        go_on = f"; continue with offset={page.last + 1}" if page.more else "; this is the end"
        notes = [f"lines {page.first}-{page.last}{of}{go_on}", *notes]
    return "\n".join([page.text, *(f"({note})" for note in notes)])


def _list(given: str, context: ToolContext) -> str:
    path = context.readable(given)
    try:
        return list_entries(path, context)
    except FileNotFoundError:
        raise no_such_file(given, context) from None
    except NotADirectoryError:
        raise ToolError(f"{given} is a file; use read") from None


def list_entries(path: Path, context: ToolContext) -> str:
    """Directories first, then files with their sizes; git's own directory is left out."""
    directories, files = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.lower() == ".git":
                continue
            if entry.is_symlink():
                files.append(f"{entry.name} -> {os.readlink(entry.path)}")
            elif entry.is_dir():
                directories.append(f"{entry.name}/")
            else:
                files.append(f"{entry.name} ({entry.stat().st_size:,} bytes)")
    names = sorted(directories) + sorted(files)
    lines = [f"{context.shown(path)}:", *names[:LISTED]]
    if len(names) > LISTED:
        lines.append(f"({len(names) - LISTED} more; glob finds files by name)")
    elif not names:
        lines.append("(empty)")
    return "\n".join(lines)


READ = Tool(
    name="read",
    description=(
        "Read a text file: numbered lines, up to 2,000 lines or 50,000 characters a page. Use offset and limit to go "
        "on. A directory is listed. output://ID reads the whole of an output that was cut."
    ),
    arguments=ReadArguments,
    run=read,
    offered=lambda context: True,
    read_only=True,
    result_characters=READ_CHARACTERS + 2_000,
)

LIST = Tool(
    name="list",
    description="List a directory: its directories, then its files with their sizes.",
    arguments=ListArguments,
    run=list_directory,
    offered=lambda context: context.may_read,
    read_only=True,
)
