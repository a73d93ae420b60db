"""Searching a tree by file name or content, as a program of its own: ``python -I scan.py REQUEST``.

Patterns of models and .gitignore files of repositories are regular expressions of strangers: one that backtracks for
ever holds the interpreter, so it must not run in a worker. This module imports nothing of swarmq, starts in 15 ms, and
is killed when its time is up. It prints what it finds as it goes, and at last a line with the figures.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

STATUS = "\x1e"
"""Begins the last line: a JSON object with the figures. It is missing where the program was killed."""

BAD_PATTERN = 2
"""The exit code for a pattern that does not compile."""

LINE_CHARACTERS = 500
MAX_FILE_BYTES = 64_000_000
_MEMORY_BYTES = 2 << 30
_IGNORE_FILE_BYTES = 256_000
_SNIFFED_BYTES = 8_192
_MOST_BRACES = 64


@dataclass(frozen=True)
class Request:
    """``start`` is relative to ``root``; ``pattern`` is a glob for ``glob``, a regular expression for ``grep``."""

    mode: str
    root: str
    start: str
    pattern: str
    glob: str = ""
    ignore_case: bool = False
    context: int = 0
    output: str = "content"
    limit: int = 2_000
    seconds: float = 20.0


@dataclass
class Figures:
    files: int = 0
    matches: int = 0
    too_large: int = 0
    stopped: str = ""
    until: float = field(default=float("inf"), repr=False)

    def full(self, limit: int) -> bool:
        if self.matches >= limit:
            self.stopped = "limit"
        elif time.monotonic() > self.until:
            self.stopped = "time"
        return bool(self.stopped)


def braces(pattern: str) -> list[str]:
    """``a.{b,c}`` as ``a.b`` and ``a.c``; nested ones too, up to 64 in all."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    expanded: list[str] = []
    for choice in match[1].split(","):
        expanded += braces(pattern[: match.start()] + choice + pattern[match.end() :])
        if len(expanded) >= _MOST_BRACES:
            break
    return expanded[:_MOST_BRACES]


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """A glob over paths: ``*`` stays within a name, ``**`` crosses directories; without ``/`` it matches any name."""
    choices = [(one if "/" in one else f"**/{one}").removeprefix("./").strip("/").split("/") for one in braces(pattern)]
    return lambda path: any(_matches(parts, path.split("/")) for parts in choices)


def _matches(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_matches(parts[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _matches(parts[1:], names[1:])


class Ignores:
    """The .gitignore files that hold for a directory; the nearest one that says anything decides."""

    def __init__(self, directory: str, outer: Ignores | None) -> None:
        self._directory, self._outer = directory, outer
        self._spec = _ignore_spec(os.path.join(directory, ".gitignore"))

    def ignored(self, path: str) -> bool:
        """``path`` is absolute; that of a directory ends with a slash."""
        if self._spec is not None:
            verdict = self._spec.check_file(path[len(self._directory) + 1 :]).include
            if verdict is not None:
                return bool(verdict)
        return self._outer is not None and self._outer.ignored(path)


def _ignore_spec(path: str) -> Any:
    try:
        if os.path.islink(path) or os.path.getsize(path) > _IGNORE_FILE_BYTES:
            return None
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    from pathspec import GitIgnoreSpec  # 25 ms, needed only where there is a .gitignore

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return None


def files_under(request: Request) -> Iterator[str]:
    """All files below the start, each directory in order of names; links, .git and what git ignores left out."""
    start = os.path.normpath(os.path.join(request.root, request.start))
    if os.path.isfile(start):
        yield start
        return
    waiting: list[tuple[str, bool, Ignores | None]] = [(start, True, _outer_ignores(request.root, start))]
    while waiting:
        path, is_directory, ignores = waiting.pop()
        if not is_directory:
            yield path
            continue
        inner = Ignores(path, ignores)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        except OSError:
            continue
        for entry in entries:
            if entry.name.lower() == ".git":
                continue
            if entry.is_dir(follow_symlinks=False):
                if not inner.ignored(entry.path + "/"):
                    waiting.append((entry.path, True, inner))
            elif entry.is_file(follow_symlinks=False) and not inner.ignored(entry.path):
                waiting.append((entry.path, False, None))


def _outer_ignores(root: str, start: str) -> Ignores | None:
    """Those of the directories above; none of them where the start itself is ignored, for it was asked for by name."""
    ignores, directory = None, root
    for part in os.path.relpath(start, root).split(os.sep):
        if part == ".":
            break
        ignores = Ignores(directory, ignores)
        directory = os.path.join(directory, part)
        if ignores.ignored(directory + "/"):
            return None
    return ignores


def wanted(request: Request) -> Iterator[str]:
    """The files that the request's glob lets through, as paths relative to the root."""
    pattern = request.glob if request.mode == "grep" else request.pattern
    matches = glob_matcher(pattern.removeprefix("!"))
    start = os.path.normpath(os.path.join(request.root, request.start))
    for path in files_under(request):
        by_name = not pattern or path == start
        if by_name or matches(os.path.relpath(path, start)) != pattern.startswith("!"):
            yield path


def glob(request: Request, figures: Figures) -> None:
    """Newest first. A search that has to stop early shows the newest of what it has met."""
    found: list[tuple[float, str]] = []
    for path in wanted(request):
        figures.files += 1
        if figures.full(sys.maxsize):
            break
        try:
            found.append((os.lstat(path).st_mtime, path))
        except OSError:
            continue
    figures.matches = len(found)
    found.sort(reverse=True)
    for _, path in found[: request.limit]:
        show(os.path.relpath(path, request.root))


def grep(request: Request, figures: Figures) -> None:
    regex = re.compile(request.pattern, re.IGNORECASE if request.ignore_case else 0)
    whole = re.compile(request.pattern, regex.flags | re.MULTILINE)
    for path in wanted(request):
        if figures.full(request.limit):
            break
        figures.files += 1
        text = _text(path, figures)
        # One search over the whole file skips most files in C; \A and \Z are the two that it would get wrong.
        if text is None or ("\\A" not in request.pattern and "\\Z" not in request.pattern and not whole.search(text)):
            continue
        _grep_file(request, os.path.relpath(path, request.root), text.split("\n"), regex, figures)
        sys.stdout.flush()
    figures.full(request.limit)


def _text(path: str, figures: Figures) -> str | None:
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            figures.too_large += 1
            return None
        with open(path, "rb") as file:
            start = file.read(_SNIFFED_BYTES)
            if b"\0" in start:
                return None
            return (start + file.read()).decode("utf-8", "replace")
    except (OSError, MemoryError):
        return None


def _grep_file(request: Request, name: str, lines: list[str], regex: re.Pattern[str], figures: Figures) -> None:
    if lines[-1] == "":
        lines.pop()
    only_name = request.output == "files_with_matches"
    most = 1 if only_name else sys.maxsize if request.output == "count" else request.limit - figures.matches
    found = ((index, regex.search(line.removesuffix("\r"))) for index, line in enumerate(lines))
    hits = dict(itertools.islice(((index, match.start()) for index, match in found if match), most))
    if not hits:
        return
    if request.output == "content":
        figures.matches += len(hits)
        _show_hits(name, lines, hits, request.context)
    else:
        figures.matches += 1
        show(name if only_name else f"{name}:{len(hits)}")


def _show_hits(name: str, lines: list[str], hits: dict[int, int], context: int) -> None:
    """``name:line:text`` for a match, ``name-line-text`` for the lines around it, ``--`` between parts."""
    shown_to = 0
    for hit in hits:
        first, last = max(hit - context, shown_to), min(hit + context, len(lines) - 1)
        if context and 0 < shown_to < first:
            sys.stdout.write("--\n")
        for index in range(first, last + 1):
            mark = ":" if index in hits else "-"
            prefix = f"{name}{mark}{index + 1}{mark}"
            show(prefix + lines[index], len(prefix) + hits.get(index, 0))
        shown_to = max(shown_to, last + 1)


def show(line: str, around: int = 0) -> None:
    """One line, made printable, a long one cut to the part around the match."""
    line = line.removesuffix("\r")
    if len(line) > LINE_CHARACTERS:
        start = max(around - LINE_CHARACTERS // 2, 0)
        head = line[: min(80, start)] + "…" if start else ""
        line = f"{head}{line[start : start + LINE_CHARACTERS]}…"
    sys.stdout.write(line.replace("\n", "\u240a") + "\n")


def bound_resources(seconds: float) -> None:
    """A backstop for the case that nobody is left to kill this process; and the agents' loops go first."""
    import resource

    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 2, int(seconds) + 3))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def main() -> int:
    request = Request(**json.loads(sys.argv[1]))
    bound_resources(request.seconds)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    figures = Figures(until=time.monotonic() + request.seconds)
    try:
        (glob if request.mode == "glob" else grep)(request, figures)
    except re.error as error:
        sys.stderr.write(f"not a valid pattern: {error}\n")
        return BAD_PATTERN
    status = {"files": figures.files, "matches": figures.matches, "too_large": figures.too_large}
    sys.stdout.write(STATUS + json.dumps({**status, "stopped": figures.stopped}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
