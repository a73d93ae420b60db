"""Static checks of changed files: syntax by their suffix, and conflict markers. Nothing of them is executed.

Syntax is checked by a program, bounded in time and memory: see ``syntax``.

A check that cannot say anything (another kind of file, a template, too large, not our syntax before either) does not
say that the file is bad.
"""

from __future__ import annotations

import marshal
import re
import sys
import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import structlog

from swarmq.collapse import syntax
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.programs import run_program
from swarmq.workspace.surveying import ChangedFile, Survey

log = structlog.get_logger()

MOST_BYTES = 400_000
"""Of one file."""
MOST_TOTAL_BYTES = 4_000_000
MOST_SECONDS = 10.0
"""Of a run of the checks, which has 2 s of a processor: it is killed then, however busy the machine is."""
ANSWER_BYTES = 4_000_000
PROBLEM_CHARACTERS = syntax.PROBLEM_CHARACTERS
MARKERS = "conflict markers"
MOST_PROBLEMS = 5

_WITH_COMMENTS = re.compile(
    r"(ts|js)config.*\.json|\.?eslintrc\.json|devcontainer\.json|.*\.code-workspace|launch\.json|settings\.json"
)
"""JSON by name only: comments and trailing commas are allowed there."""
_TEMPLATE = re.compile(rb"\{\{|\{%")
_OURS, _THEIRS = re.compile(rb"^<<<<<<<[ \r\n]", re.MULTILINE), re.compile(rb"^>>>>>>>[ \r\n]", re.MULTILINE)


def checkable(name: str) -> bool:
    """Whether the name promises a syntax that can be checked."""
    path = PurePosixPath(name)
    return path.suffix in syntax.CHECKS and "{{" not in name and not _WITH_COMMENTS.fullmatch(path.name)


def _worth_checking(name: str, content: bytes) -> bool:
    suffix = PurePosixPath(name).suffix
    if not checkable(name) or len(content) > MOST_BYTES:
        return False
    return suffix in (".py", ".pyi") or _TEMPLATE.search(content) is None


async def syntax_problems(files: Mapping[str, tuple[str, bytes]]) -> dict[str, str | None]:
    """What is wrong with the syntax of files, given by any key as (name, content); on one line each.

    None where nothing is wrong, or nothing can be said: the file at which the time was up, or the memory, is one of
    these. Those that it kept from being checked are missing.
    """
    wanted = {key: file for key, file in files.items() if _worth_checking(*file)}
    found: dict[str, str | None] = dict.fromkeys(files.keys() - wanted.keys())
    if wanted:
        found |= await _answers(wanted)
    return found


async def _answers(wanted: Mapping[str, tuple[str, bytes]]) -> dict[str, str | None]:
    request = [(PurePosixPath(name).suffix, content) for name, content in wanted.values()]
    alone = not any(suffix in syntax.PACKAGED for suffix, _ in request)
    arguments = [sys.executable, "-I", *(["-S"] if alone else []), "-W", "ignore", syntax.__file__]
    try:
        with await run_blocking(_request_file, request) as file:
            result = await run_program(
                arguments, cwd=Path("/"), timeout_seconds=MOST_SECONDS, limit_bytes=ANSWER_BYTES, stdin=file.fileno()
            )
    except OSError as error:  # no process, no space: it says nothing of the files
        log.warning("files not checked", error=str(error))
        return {}
    lines = result.output.decode("utf-8", "replace").split("\n")[:-1]
    if len(lines) < len(wanted):
        cut_off = result.exit_code is None or result.exit_code < 0
        if not cut_off:
            log.warning("files not checked", error=result.errors.decode("utf-8", "replace")[-PROBLEM_CHARACTERS:])
        lines += [""] if cut_off else []  # it is not tried again with every look
    return {key: line or None for key, line in zip(wanted, lines, strict=False)}


def _request_file(request: list[tuple[str, bytes]]) -> IO[bytes]:
    """A file and no pipe: nobody has to feed it. Blocking."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's to close)
    try:
        marshal.dump(request, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def has_markers(content: bytes) -> bool:
    """Whether there are lines like both sides of a conflict; a line of seven ``=`` alone may be a heading."""
    return _OURS.search(content) is not None and _THEIRS.search(content) is not None


def unread_blobs(survey: Survey, known: Container[str] = ()) -> list[str]:
    """What has to be read for the checks, but for blobs that were checked before."""
    return list(dict.fromkeys(file.blob for file in survey.files if file.blob is not None and file.blob not in known))


async def check_files(
    survey: Survey, contents: Mapping[str, bytes], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The problem of each changed blob (None: there is none), those that are known included.

    A blob for which there was no time is missing: it is one for the next look.
    """
    changed = {file.blob: file.name for file in survey.files if file.blob is not None}
    found = {blob: known[blob] for blob in changed if blob in known}
    new = {blob: (name, contents[blob]) for blob, name in changed.items() if blob in contents and blob not in known}
    marked = await run_blocking(_marked, {blob: content for blob, (_, content) in new.items()})
    found |= dict.fromkeys(marked, MARKERS)
    return found | await syntax_problems({blob: file for blob, file in new.items() if blob not in marked})


def _marked(contents: Mapping[str, bytes]) -> set[str]:
    return {blob for blob, content in contents.items() if has_markers(content)}


def suspects(survey: Survey, found: Mapping[str, str | None], known: Container[str]) -> list[ChangedFile]:
    """Files with a problem that was not known: it may have been there before."""
    return [file for file in survey.files if file.blob not in known and found.get(file.blob or "") is not None]


async def excused(
    files: Sequence[ChangedFile], found: Mapping[str, str | None], before: Mapping[str, bytes], marked: Container[str]
) -> dict[str, str | None]:
    """The blobs of suspects that are not held against a branch.

    Markers that it did not add, and files whose syntax was not right in the base either: fixtures, or another language
    by the same name. So are those for whose base there was no time.
    """
    syntactic = [file for file in files if found.get(file.blob or "") != MARKERS]
    bases = {file.before: file.name for file in syntactic if file.before is not None}
    held = {blob: (name, before[blob]) for blob, name in bases.items() if blob in before}
    earlier = await syntax_problems(held)
    right = {blob for blob, problem in earlier.items() if problem is None}
    innocent = [file for file in syntactic if file.before in held and file.before not in right]
    innocent += [file for file in files if found.get(file.blob or "") == MARKERS and file.name not in marked]
    return {file.blob: None for file in innocent if file.blob is not None}


def told(survey: Survey, found: Mapping[str, str | None]) -> Sequence[str]:
    """The problems as an observation carries them: file and what is wrong, a few of them, each on a short line."""
    lines = (f"{file.shown}: {found[file.blob]}" for file in survey.files if file.blob and found.get(file.blob))
    return tuple(
        " ".join(line.split())[:PROBLEM_CHARACTERS] for line, _ in zip(lines, range(MOST_PROBLEMS), strict=False)
    )
