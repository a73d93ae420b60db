"""Static checks of changed files: syntax by their suffix, and conflict markers. Nothing of them is executed.

A check that cannot say anything (another kind of file, a template, too large, not our syntax before either) does not
say that the file is bad.
"""

from __future__ import annotations

import ast
import json
import re
import threading
import time
import tomllib
import warnings
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from swarmq.workspace.surveying import ChangedFile, Survey

MOST_BYTES = 400_000
"""Of one file. Python's compiler holds the GIL: 100 KB take it 18 ms, so that no more than 80 ms are lost to others."""
MOST_TOTAL_BYTES = 4_000_000
MOST_SECONDS = 2.0
MARKERS = "conflict markers"
MOST_PROBLEMS = 5
PROBLEM_CHARACTERS = 200

_WITH_COMMENTS = re.compile(
    r"(ts|js)config.*\.json|\.?eslintrc\.json|devcontainer\.json|.*\.code-workspace|launch\.json|settings\.json"
)
"""JSON by name only: comments and trailing commas are allowed there."""
_TEMPLATE = re.compile(rb"\{\{|\{%")
_OURS, _THEIRS = re.compile(rb"^<<<<<<<[ \r\n]", re.MULTILINE), re.compile(rb"^>>>>>>>[ \r\n]", re.MULTILINE)
_one_compiler = threading.Lock()


def _python(content: bytes) -> str | None:
    with _one_compiler, warnings.catch_warnings():  # the filters are the process's: one at a time
        warnings.simplefilter("ignore")
        try:
            compile(content, "<checked>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except SyntaxError as error:
            return f"line {error.lineno}: {error.msg}"
        except ValueError as error:
            return str(error)
        except (RecursionError, MemoryError, OverflowError):  # too deep for us, which is not wrong
            return None
    return None


def _json(content: bytes) -> str | None:
    try:
        json.loads(content)
    except RecursionError:
        return None
    except ValueError as error:
        return str(error)
    return None


def _toml(content: bytes) -> str | None:
    try:
        tomllib.loads(content.decode())
    except RecursionError:
        return None
    except ValueError as error:
        return str(error)
    return None


def _yaml(content: bytes) -> str | None:
    import yaml  # 20 ms, for who meets such a file

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for _ in yaml.parse(content, Loader=loader):  # events only: nothing is built, no alias is followed
            pass
    except RecursionError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return f"line {mark.line + 1}: {error.problem}" if mark is not None else str(error.problem)
    except yaml.YAMLError as error:
        return str(error)
    return None


_CHECKS: Mapping[str, Callable[[bytes], str | None]] = {
    ".py": _python,
    ".pyi": _python,
    ".json": _json,
    ".toml": _toml,
    ".yaml": _yaml,
    ".yml": _yaml,
}


def checkable(name: str) -> bool:
    """Whether the name promises a syntax that can be checked."""
    path = PurePosixPath(name)
    return path.suffix in _CHECKS and "{{" not in name and not _WITH_COMMENTS.fullmatch(path.name)


def syntax_problem(name: str, content: bytes) -> str | None:
    """What is wrong with the syntax of a file, on one line; None where nothing is, or nothing can be said."""
    suffix = PurePosixPath(name).suffix
    if not checkable(name) or len(content) > MOST_BYTES:
        return None
    if suffix not in (".py", ".pyi") and _TEMPLATE.search(content):
        return None
    return _CHECKS[suffix](content.removeprefix(b"\xef\xbb\xbf"))


def has_markers(content: bytes) -> bool:
    """Whether there are lines like both sides of a conflict; a line of seven ``=`` alone may be a heading."""
    return _OURS.search(content) is not None and _THEIRS.search(content) is not None


def unread_blobs(survey: Survey, known: Container[str] = ()) -> list[str]:
    """What has to be read for the checks, but for blobs that were checked before."""
    return list(dict.fromkeys(file.blob for file in survey.files if file.blob is not None and file.blob not in known))


def check_files(
    survey: Survey, contents: Mapping[str, bytes], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The problem of each changed blob (None: there is none), those that are known included. Blocking."""
    found: dict[str, str | None] = {}
    deadline = time.monotonic() + MOST_SECONDS
    for file in survey.files:
        if file.blob is None:
            continue
        if file.blob in known:
            found[file.blob] = known[file.blob]
        elif time.monotonic() < deadline and file.blob in contents:
            content = contents[file.blob]
            found[file.blob] = MARKERS if has_markers(content) else syntax_problem(file.name, content)
    return found


def suspects(survey: Survey, found: Mapping[str, str | None], known: Container[str]) -> list[ChangedFile]:
    """Files with a problem that was not known: it may have been there before."""
    return [file for file in survey.files if file.blob not in known and found.get(file.blob or "") is not None]


def excused(
    files: Iterable[ChangedFile], found: Mapping[str, str | None], before: Mapping[str, bytes], marked: Container[str]
) -> dict[str, str | None]:
    """The blobs of suspects that are not held against a branch. Blocking.

    Markers that it did not add, and files whose syntax was not right in the base either: fixtures, or another language
    by the same name.
    """
    innocent: dict[str, str | None] = {}
    for file in files:
        if file.blob is None:
            continue
        if found[file.blob] == MARKERS:
            old = file.name not in marked
        else:
            old = file.before in before and syntax_problem(file.name, before[file.before or ""]) is not None
        if old:
            innocent[file.blob] = None
    return innocent


def told(survey: Survey, found: Mapping[str, str | None]) -> Sequence[str]:
    """The problems as an observation carries them: file and what is wrong, a few of them, each on a short line."""
    lines = (f"{file.shown}: {found[file.blob]}" for file in survey.files if file.blob and found.get(file.blob))
    return tuple(
        " ".join(line.split())[:PROBLEM_CHARACTERS] for line, _ in zip(lines, range(MOST_PROBLEMS), strict=False)
    )
