"""What searches files: the package's own scan.py, or ripgrep. Each runs as a program, bounded in time and output."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swarmq.agent.tools import scan
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.programs import ProgramResult, run_program

SEARCH_SECONDS = 20.0
OUTPUT_BYTES = 1_000_000
_SPARE_SECONDS = 2.0
"""scan.py ends by itself when its time is up; this much later it is killed."""
_RIPGREP_ERROR = 2


@dataclass(frozen=True)
class Place:
    """Where to search. ``start`` is relative to ``root``; ``shown`` is another name for it in the results."""

    root: Path
    start: str
    shown: str | None = None


@dataclass(frozen=True)
class Found:
    """``stopped`` is "time" or "limit" where there may be more."""

    lines: list[str]
    matches: int
    stopped: str = ""
    too_large: int = 0


async def run_scan(request: scan.Request) -> Found:
    """Raises ToolError for a pattern that is not valid."""
    arguments = [sys.executable, "-I", scan.__file__, json.dumps(asdict(request))]
    result = await run_program(
        arguments,
        cwd=Path(request.root),
        timeout_seconds=request.seconds + _SPARE_SECONDS,
        limit_bytes=OUTPUT_BYTES,
    )
    return await run_blocking(_scanned, result)


def _scanned(result: ProgramResult) -> Found:
    errors = result.errors.decode("utf-8", "replace").strip()
    if result.exit_code == scan.BAD_PATTERN:
        raise ToolError(errors)
    lines = _lines(result)
    if lines and lines[-1].startswith(scan.STATUS):
        figures: dict[str, Any] = json.loads(lines.pop()[len(scan.STATUS) :])
        return Found(lines, figures["matches"], figures["stopped"], figures["too_large"])
    if result.exit_code is None or result.exit_code < 0:  # killed by us, or by its own limit of CPU time
        whole = lines[:-1]
        return Found(whole, len(whole), "limit" if result.exit_code is None and not result.timed_out else "time")
    raise ToolError(f"the search failed: {errors[-300:] or f'exit code {result.exit_code}'}")


def _lines(result: ProgramResult) -> list[str]:
    text = result.output.decode("utf-8", "replace").removesuffix("\n")
    return text.split("\n") if text else []


async def ripgrep(program: str, request: scan.Request) -> Found | None:
    """None where ripgrep refuses the pattern: Python's engine may know it, or will say what is wrong with it."""
    cwd, target = await run_blocking(_directory_and_target, request)
    result = await run_program(
        [program, *_ripgrep_options(request), "--", target],
        cwd=cwd,
        timeout_seconds=request.seconds,
        limit_bytes=OUTPUT_BYTES,
    )
    if result.exit_code == _RIPGREP_ERROR and not result.output:
        return None
    return await run_blocking(_ripgrepped, result, request, cwd)


def _directory_and_target(request: scan.Request) -> tuple[Path, str]:
    """A search runs in the directory that it is about, as globs are relative to that."""
    start = Path(request.root, request.start)
    return (start, "./") if start.is_dir() else (start.parent, start.name)


def _ripgrepped(result: ProgramResult, request: scan.Request, cwd: Path) -> Found:
    prefix = "" if cwd == Path(request.root) else f"{cwd.relative_to(request.root)}/"
    lines: list[str] = []
    matches = 0
    for line in _lines(result):
        text, is_match = _shown(line, prefix)
        if is_match and matches == request.limit:
            return Found(lines, matches, "limit")
        matches += is_match
        lines.append(text)
    if result.exit_code is None:
        return Found(lines[:-1], matches, "time" if result.timed_out else "limit")  # the last line may be cut
    return Found(lines, matches)


def _ripgrep_options(request: scan.Request) -> list[str]:
    options = ["--no-config", "--color=never", "--no-messages", "--hidden", "--no-ignore-global", "--no-ignore-dot"]
    options += ["--sort=path", "--with-filename", "--no-heading", "--threads=2"]
    options += [f"--max-columns={scan.LINE_CHARACTERS}", "--max-columns-preview"]
    if request.output == "content":
        options += ["--line-number", "--null", f"--context={request.context}"]
    else:
        options.append("--files-with-matches" if request.output == "files_with_matches" else "--count")
    if request.ignore_case:
        options.append("--ignore-case")
    if request.glob:
        options.append(f"--glob={request.glob}")
    return [*options, "--glob=!.git", f"--regexp={request.pattern}"]


def _shown(line: str, prefix: str) -> tuple[str, bool]:
    """The line as scan.py would print it, and whether it is a match: ripgrep has put a NUL after the name."""
    if line == "--":
        return line, False
    name, found, rest = line.removeprefix("./").partition("\0")
    if not found:
        return prefix + name, True
    number = re.match(r"\d+([:-])", rest)
    mark = number[1] if number else ":"
    return f"{prefix}{name}{mark}{rest}", mark == ":"
