"""The syntax of files, by their suffix, as a program of its own: ``python -I -W ignore syntax.py < FILES``.

No bound on a file's size bounds what its check takes: 600 bytes of nested ``finally`` keep Python's compiler busy for
seconds, ``import a.b.b…`` takes time and memory with the square of its length, and the compiler lets no other thread
run meanwhile. So it must not run in a worker. This module imports nothing of swarmq, and next to nothing else, starts
in 15 ms, and is killed when its time is up. It prints each answer as it comes: whoever reads them knows at which file
it was.
"""

from __future__ import annotations

import marshal
import os
import sys

CPU_SECONDS = 2
"""For all files of a run. What the machine gives to others meanwhile does not count."""
MEMORY_BYTES = 1 << 30
PROBLEM_CHARACTERS = 200


def _python(content: bytes) -> str | None:
    from _ast import PyCF_ALLOW_TOP_LEVEL_AWAIT  # all of ast takes 5 ms to import

    try:
        compile(content, "<checked>", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        return str(error)
    return None


def _json(content: bytes) -> str | None:
    import json

    try:
        json.loads(content)
    except ValueError as error:
        return str(error)
    return None


def _toml(content: bytes) -> str | None:
    import tomllib

    try:
        tomllib.loads(content.decode())
    except ValueError as error:
        return str(error)
    return None


def _yaml(content: bytes) -> str | None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for _ in yaml.parse(content, Loader=loader):  # events only: nothing is built, no alias is followed
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return f"line {mark.line + 1}: {error.problem}" if mark is not None else str(error.problem)
    except yaml.YAMLError as error:
        return str(error)
    return None


CHECKS = {".py": _python, ".pyi": _python, ".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
PACKAGED = (".yaml", ".yml")
"""Their checks need what is installed, and not only Python's own modules."""


def problem_of(suffix: str, content: bytes) -> str | None:
    """What is wrong with a file, on one line; None where nothing is, or nothing can be said. Unbounded."""
    try:
        problem = CHECKS[suffix](content.removeprefix(b"\xef\xbb\xbf"))
    except (RecursionError, MemoryError, OverflowError):  # too deep for us, which is not wrong
        return None
    return None if problem is None else " ".join(problem.split())[:PROBLEM_CHARACTERS] or "not valid"


def _bound_resources() -> None:
    """The agents' loops go first; and none of it outlives who would have killed it by much."""
    import resource

    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main() -> None:
    """Reads a marshalled list of (suffix, content); prints one line for each, empty where there is no problem."""
    files = marshal.load(sys.stdin.buffer)
    _bound_resources()
    for suffix, content in files:
        line = (problem_of(suffix, content) or "") + "\n"
        sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
