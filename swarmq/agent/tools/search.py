"""``glob`` and ``grep``: files by name or by content, as ripgrep sees them."""

from __future__ import annotations

import shutil
from typing import Literal

from pydantic import Field

from swarmq.agent.tools import scan
from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.engines import SEARCH_SECONDS, Found, Place, ripgrep, run_scan
from swarmq.agent.tools.missing import no_such_file
from swarmq.agent.tools.outputs import SCHEME
from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.environment import child_path

MOST_PATHS = 1_000
MOST_MATCHES = 2_000


class GlobArguments(Arguments):
    pattern: str = Field(min_length=1, max_length=1_000, description="Such as **/*.py, src/**/*.{ts,tsx} or README*.")
    path: str = Field(".", description="Directory to search; the working directory if left out.")


class GrepArguments(Arguments):
    pattern: str = Field(min_length=1, max_length=10_000, description="A regular expression, matched line by line.")
    path: str = Field(".", description="File or directory, or output://ID; the working directory if left out.")
    glob: str = Field("", max_length=1_000, description="Only files that match, such as *.py; with ! before: all but.")
    output_mode: Literal["content", "files_with_matches", "count"] = "content"
    ignore_case: bool = False
    context: int = Field(0, ge=0, le=50, description="Lines to show before and after each match.")


async def glob(arguments: GlobArguments, context: ToolContext) -> str:
    place = await run_blocking(_place, arguments.path, context)
    pattern = _inside(arguments.pattern, place)
    request = scan.Request("glob", str(place.root), place.start, pattern, limit=MOST_PATHS, seconds=SEARCH_SECONDS)
    found = await run_scan(request)
    if not found.lines:
        return f"(no file matches {arguments.pattern}{_stopped(found)})"
    notes = [f"({found.matches - len(found.lines):,} older ones not shown; narrow the pattern)"]
    return "\n".join([*found.lines, *(notes if found.matches > len(found.lines) else []), *_notes(found)])


async def grep(arguments: GrepArguments, context: ToolContext) -> str:
    place = await run_blocking(_place, arguments.path, context)
    request = scan.Request(
        "grep",
        str(place.root),
        place.start,
        arguments.pattern,
        glob=arguments.glob,
        ignore_case=arguments.ignore_case,
        context=arguments.context,
        output=arguments.output_mode,
        limit=MOST_MATCHES,
        seconds=SEARCH_SECONDS,
    )
    program = await run_blocking(shutil.which, "rg", path=child_path())
    found = await ripgrep(program, request) if program is not None else None
    if found is None:
        found = await run_scan(request)
    if not found.lines:
        return "\n".join([f"(no match{_stopped(found)})", *_notes(found)[1 if found.stopped else 0 :]])
    lines = found.lines
    if place.shown is not None:
        lines = [place.shown + line.removeprefix(place.start) for line in lines]
    return "\n".join([*lines, *_notes(found)])


def _notes(found: Found) -> list[str]:
    notes = [f"({_stopped(found)[2:]})"] if found.stopped else []
    if found.too_large:
        notes.append(f"({found.too_large} files above {scan.MAX_FILE_BYTES:,} bytes were not searched)")
    return notes


def _stopped(found: Found) -> str:
    match found.stopped:
        case "":
            return ""
        case "limit":
            return f"; stopped after {found.matches:,} matches, there may be more: narrow pattern, path or glob"
        case _:
            return f"; stopped after {SEARCH_SECONDS:g} s, there may be more: narrow pattern, path or glob"


def _place(given: str, context: ToolContext) -> Place:
    if given.startswith(SCHEME):
        path = context.saved.find(given)
        return Place(path.parent, path.name, given)
    path = context.readable(given)
    if not path.exists():
        raise no_such_file(given, context)
    for root in (context.working_directory(), *context.read_roots):
        if path.is_relative_to(root):
            return Place(root, str(path.relative_to(root)))
    raise ToolError(f"{given!r} is outside the working directory")


def _inside(pattern: str, place: Place) -> str:
    """An absolute pattern made relative to where the search starts."""
    pattern = pattern.removeprefix(f"{place.root / place.start}/")
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise ToolError(f"the pattern {pattern!r} leads out of the directory that is searched; use path and a pattern")
    return pattern


GLOB = Tool(
    name="glob",
    description=(
        "Find files by name: *.py anywhere, src/**/*.ts below src. The newest come first; what .gitignore names is "
        "left out."
    ),
    arguments=GlobArguments,
    run=glob,
    offered=lambda context: context.may_read,
    read_only=True,
)

GREP = Tool(
    name="grep",
    description=(
        "Search the contents of files with a regular expression; what .gitignore names and binary files are left out. "
        "Results are FILE:LINE:TEXT, or the files alone, or the number of matching lines in each."
    ),
    arguments=GrepArguments,
    run=grep,
    offered=lambda context: context.may_read,
    read_only=True,
)
