"""What a repository holds, in a few lines: the planner's picture of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.git import GitAt

LISTED_FILES = 300
LISTED_DIRECTORIES = 100
PATH_CHARACTERS = 200


async def repository_overview(repo: Path, commit: str) -> str:
    """The paths of that commit; of a large repository its directories with the number of files in each."""
    return await run_blocking(_overview, repo, commit)


def _overview(repo: Path, commit: str) -> str:
    listing = GitAt(directory=repo).run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).text
    return describe_paths([path for path in listing.split("\0") if path])


def describe_paths(paths: Sequence[str]) -> str:
    """Pure. Paths come from an untrusted repository: each is cut and kept on one line."""
    if len(paths) <= LISTED_FILES:
        return "\n".join([f"{len(paths)} files:", *(_line(path) for path in paths)])
    by_directory = Counter(path.rpartition("/")[0] or "." for path in paths)
    shown = sorted(by_directory.items(), key=lambda item: (item[0].count("/"), item[0]))[:LISTED_DIRECTORIES]
    more = len(by_directory) - len(shown)
    lines = [f"{len(paths)} files in {len(by_directory)} directories:"]
    lines += [f"{_line(directory)}/ ({count} files)" for directory, count in sorted(shown)]
    return "\n".join([*lines, f"and {more} more directories"] if more else lines)


def _line(path: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in path[:PATH_CHARACTERS])
