"""What merging costs in a large repository: time, processor time and git processes of each step.

    scripts/uv run python benchmarks/merging.py --files 50000

Branches change ``--changed`` files each, some of them the same files, and are merged one after the other, as a swarm
does it: checkpoint, commit, prepare, a checkout of the merged tree for verify, land. The median of ``--merges``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository

T = TypeVar("T")

SWARM = "k3x9qm2p4t"
FILES_PER_DIRECTORY = 50


@dataclass
class Steps:
    """Seconds, seconds of a processor and git processes of each step, in the order of the first time."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    processes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    started: Path = Path()
    """Where each git program that swarmq starts leaves a line."""

    async def take(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        before, used, began = self.started.stat().st_size, cpu_seconds(), time.perf_counter()
        result = await work()
        self.seconds[name].append(time.perf_counter() - began)
        self.cpu_seconds[name].append(cpu_seconds() - used)
        self.processes[name].append(self.started.stat().st_size - before)
        return result

    def report(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "ms": round(statistics.median(taken) * 1000),
                "cpu_ms": round(statistics.median(self.cpu_seconds[name]) * 1000),
                "git_processes": statistics.median(self.processes[name]),
            }
            for name, taken in self.seconds.items()
        }


def cpu_seconds() -> float:
    """Of this process and of all that it has started and that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def generated(where: Path, files: int) -> str:
    """A repository of small source files with one commit, by fast-import; the commit's id."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(where)], check=True)
    feed = [b"commit refs/heads/main\ncommitter B <b@localhost> 1700000000 +0000\ndata 5\nstart\n"]
    for number in range(files):
        body = b"".join(b"def f%d_%d(): return %d\n" % (number, line, line) for line in range(20))
        feed.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name_of(number).encode(), len(body), body))
    import_ = ["git", "-C", str(where), "fast-import", "--quiet"]
    subprocess.run(import_, input=b"".join(feed), check=True)
    subprocess.run(["git", "-C", str(where), "reset", "-q", "--hard"], check=True)
    found = subprocess.run(["git", "-C", str(where), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def name_of(number: int) -> str:
    directory = number // FILES_PER_DIRECTORY
    return f"src/p{directory // FILES_PER_DIRECTORY}/m{directory}/f{number}.py"


def counting_git(place: Path) -> Path:
    """Put a program named git in front of PATH that leaves one byte in a file and becomes git."""
    git, started = shutil.which("git"), place / "started"
    started.touch()
    program = place / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf . >> {started}\nexec {git} "$@"\n')
    program.chmod(0o755)
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return started


def edit(worktree: Path, branch: int, changed: int, files: int) -> None:
    """Lines of this branch's own in files of its own, and in one file that every branch changes."""
    for number in [files // 2, *((branch * changed + offset) % files for offset in range(1, changed))]:
        path = worktree / name_of(number)
        lines = path.read_text().splitlines(keepends=True)
        lines[branch * 2 % len(lines)] = f"def changed_{branch}(): pass\n"
        path.write_text("".join(lines))


async def measure(place: Path, files: int, merges: int, changed: int) -> dict[str, dict[str, float]]:
    base = generated(place / "repo", files)
    steps = Steps(started=counting_git(place))
    swarm = SwarmRepository(place / "state", SWARM, place / "repo", base)
    await steps.take("private clone", swarm.prepare)
    finished: list[str] = []
    for branch in range(merges):
        worktree = await steps.take("open a worktree", lambda: swarm.open_worktree(f"b{branch}", 1, base))  # noqa: B023
        edit(worktree.path, branch, changed, files)
        saved = await steps.take("first checkpoint", lambda: swarm.checkpoint(worktree, None))  # noqa: B023
        edit(worktree.path, branch + merges, 2, files)
        await steps.take("next checkpoint", lambda: swarm.checkpoint(worktree, saved))  # noqa: B023
        made = await steps.take("commit", lambda: swarm.commit(worktree, message="x", trailers={}))  # noqa: B023
        await steps.take("remove a worktree", lambda: swarm.remove_worktree(worktree))  # noqa: B023
        if made is not None:
            finished.append(made.commit)
    for commit in finished:
        prepared = await steps.take("prepare a merge", lambda: swarm.prepare_merge(commit, message="x"))  # noqa: B023
        if not isinstance(prepared, PreparedMerge):
            raise SystemExit(f"not a clean merge: {prepared.status} {prepared.conflicts}")
        merged = await steps.take("checkout for verify", lambda: swarm.open_detached("v", prepared.commit))  # noqa: B023
        await steps.take("land", lambda: swarm.land(prepared))  # noqa: B023
        await swarm.remove_worktree(merged)
    await steps.take("publish", swarm.publish)
    return steps.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--merges", type=int, default=5)
    parser.add_argument("--changed", type=int, default=20)
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="swarmq-bench-"))
    try:
        report = asyncio.run(measure(place, arguments.files, arguments.merges, arguments.changed))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps({"files": arguments.files, "load": round(os.getloadavg()[0], 1), **report}, indent=1))


if __name__ == "__main__":
    main()
