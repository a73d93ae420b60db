"""What it costs to look at the files of running branches: CPU of this process and of git, and the loop's longest stall.

    scripts/uv run python benchmarks/observations.py --branches 100

Each branch saves a commit that changes one Python file of some hundred lines, in a repository of 2,000 files; then all
of their observers look at the same time, as in the worst heartbeat.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from swarmq.collapse.observing import Looked, Observer
from swarmq.workspace.swarm_repository import SwarmRepository

GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost")
SWARM = "bench00000"


class Idle:
    """An agent that waits for its model."""

    steps, tokens, doing, writing, verified = 1, 0, "model call", False, None


async def heard(_: Looked, __: str) -> None:
    return


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def repository(path: Path, files: int) -> str:
    path.mkdir()
    for number in range(files):
        (path / f"m{number:04}.py").write_text(f"VALUE = {number}\n" * 50)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*GIT, *command], cwd=path, check=True)
    return subprocess.run(
        [*GIT, "rev-parse", "HEAD"], cwd=path, check=True, capture_output=True, text=True
    ).stdout.strip()


async def stall(done: asyncio.Event) -> float:
    longest = 0.0
    while not done.is_set():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - before - 0.005)
    return longest


async def measure(root: Path, branches: int, files: int) -> None:
    base = repository(root / "repo", files)
    swarm = SwarmRepository(root / "state", SWARM, root / "repo", base)
    worktree = await swarm.open_worktree("b", 1, base)
    observers: list[Observer] = []
    previous: str | None = None
    for number in range(branches):
        source = "".join(f"def f{line}(a, b):\n    return a + b + {number}\n\n\n" for line in range(150))
        (worktree.path / f"m{number:04}.py").write_text(source)
        saved = await swarm.checkpoint(worktree, previous)
        observer = Observer(Idle(), heard)
        observer.watch(swarm, previous or base, None)
        observer.saved(saved or base)
        observers.append(observer)
        previous = saved
    done = asyncio.Event()
    watching = asyncio.create_task(stall(done))
    for what in ("a look at new files", "a heartbeat without"):
        started, cpu = time.monotonic(), cpu_seconds()
        await asyncio.gather(*(observer.refresh(600.0) for observer in observers))
        wall_ms, cpu_ms = (time.monotonic() - started) * 1000, (cpu_seconds() - cpu) * 1000
        print(f"{what}: {cpu_ms / branches:.2f} ms of CPU a branch, {wall_ms:.0f} ms for all {branches}")
    done.set()
    print(f"longest stall of the loop: {await watching * 1000:.0f} ms")
    assert all(observer.observation().checks for observer in observers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=100)
    parser.add_argument("--files", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swarmq-bench-") as root:
        asyncio.run(measure(Path(root), given.branches, given.files))


if __name__ == "__main__":
    main()
