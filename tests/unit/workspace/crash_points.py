"""One swarm's git work, killed before its N-th effect and then repeated; run in a process of its own by its test.

``crash_points.py REPO DIRECTORY STEP`` forks a child for each STEP-th N, which ends by ``os._exit`` before that git
call or file operation, as a killed worker does. Then the work is done again by a new holder, and the result is checked.
``crash_points.py REPO DIRECTORY`` lets four processes do branches of one swarm at the same time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from swarmq.models.swarm import MergeReport
from swarmq.workspace import result_commits
from swarmq.workspace.commits import checkpoint, commit
from swarmq.workspace.git import GitAt
from swarmq.workspace.integration import PreparedMerge, land, prepare_merge
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.publishing import publish, remove
from swarmq.workspace.worktrees import open_reader, open_worktree, remove_worktree

SWARM = "k3x9qm2p4t"
KILLED = 9


def work(clone: PrivateClone, record: Path, token: int) -> str:
    """What the fleet does for one branch; ``record`` stands for Redis."""
    base = clone.base_commit
    clone.make()
    open_reader(clone, 0, base)
    saved = record.read_text() if record.exists() else None
    worktree = open_worktree(clone, "a", token, saved or base)
    for number in range(2):
        (worktree.path / f"new{number}.txt").write_text(f"{number}\n")
        made = checkpoint(clone, worktree, saved)
        if made is not None:
            saved = made
            record.write_text(saved)
    info = commit(clone, worktree, "Finish", {"Swarmq-Branch": "a"}, "Agent <agent@example.com>")
    assert info is not None
    result_commits.keep_result(clone, "key", info.commit)
    remove_worktree(clone, worktree.path)
    report = integrated(clone, info.commit, "Merge a")
    assert report.status == "merged", report
    published = publish(clone)
    assert published is not None
    hit = result_commits.apply_result(clone, "key", base, None)
    assert hit is not None
    remove(clone, ())
    return published[1]


def integrated(clone: PrivateClone, commit: str, message: str) -> MergeReport:
    """As the merge queue does it; again where another process was first."""
    while True:
        prepared = prepare_merge(clone, commit, message)
        report = land(clone, prepared) if isinstance(prepared, PreparedMerge) else prepared
        if report is not None:
            return report


def dies_before(limit: int) -> None:
    """Let this process do ``limit`` git calls and file operations, and end at the next."""
    done = 0

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done == limit:
                os._exit(KILLED)
            done += 1
            return original(*args, **kwargs)

        return call

    for owner, name in ((GitAt, "_once"), (Path, "rename"), (Path, "replace"), (os, "pwrite"), (shutil, "copyfile")):
        setattr(owner, name, wrapped(getattr(owner, name)))


def started(task: Callable[[], None]) -> int:
    """The id of a child that does ``task`` and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            task()
        except BaseException:  # noqa: BLE001 (a child must never return into the caller's code)
            sys.stderr.write(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(repo: Path, state: Path, tip: str) -> None:
    """One merge, both files, nothing left behind but the cache, and a sound repository."""

    def plain(*arguments: str) -> list[str]:
        command = ["git", "-C", str(repo), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]

    assert plain("rev-parse", f"refs/heads/swarmq/{SWARM}") == [tip]
    assert len(plain("rev-list", "--merges", tip)) == 1, plain("log", "--oneline", tip)
    assert {"new0.txt", "new1.txt"} <= set(plain("ls-tree", "--name-only", tip))
    assert plain("for-each-ref", "refs/swarmq/") == [], plain("for-each-ref")
    assert plain("status", "--porcelain") == []
    assert not [line for line in plain("fsck", "--full", "--strict") if not line.startswith("dangling")]
    assert os.listdir(state / "swarms") == [], os.listdir(state / "swarms")


def attempt(clone: PrivateClone, record: Path, limit: int) -> None:
    dies_before(limit)
    work(clone, record, 1)


def crashes(repo: Path, place: Path, step: int) -> int:
    """Kill at each ``step``-th point in turn; how many were tried."""
    base = GitAt(directory=repo).run("rev-parse", "HEAD").text
    limit = tried = 0
    while True:
        user, state, record = place / f"repo{limit}", place / f"state{limit}", place / f"record{limit}"
        shutil.copytree(repo, user)

        code = exit_code(started(partial(attempt, PrivateClone(state, SWARM, user, base), record, limit)))
        assert code in (0, KILLED), code
        if code == KILLED:
            # The same holder again, or the next one with a new token.
            tip = work(PrivateClone(state, SWARM, user, base), record, 1 + tried % 2)
            check(user, state, tip)
        shutil.rmtree(user)
        shutil.rmtree(state, ignore_errors=True)
        if code == 0:
            return tried
        limit, tried = limit + step, tried + 1


def together(repo: Path, place: Path) -> int:
    """Four processes open, save, commit and merge five branches each; how many are merged at the end."""
    base = GitAt(directory=repo).run("rev-parse", "HEAD").text

    def worker(number: int) -> None:
        clone = PrivateClone(place / "state", SWARM, repo, base)
        for branch in range(5):
            clone.make()
            reader = open_reader(clone, 0, base)
            assert (reader.path / "README.md").exists()
            worktree = open_worktree(clone, f"b{number}-{branch}", 1, base)
            (worktree.path / f"file{number}-{branch}").write_text("x\n")
            assert checkpoint(clone, worktree, None) is not None
            info = commit(clone, worktree, "x", {}, "A <a@b.c>")
            assert info is not None
            assert integrated(clone, info.commit, f"Merge {number} {branch}").status == "merged"

    children = [started(partial(worker, number)) for number in range(4)]
    assert [exit_code(pid) for pid in children] == [0] * 4
    clone = PrivateClone(place / "state", SWARM, repo, base)
    names = clone.git.run("ls-tree", "-z", "--name-only", clone.integration_ref).names
    assert len(os.listdir(clone.worktrees)) == 21, os.listdir(clone.worktrees)
    return len([name for name in names if name.startswith("file")])


if __name__ == "__main__":
    repo, place = Path(sys.argv[1]), Path(sys.argv[2])
    count = crashes(repo, place, int(sys.argv[3])) if sys.argv[3:] else together(repo, place)
    sys.stdout.write(f"{count}\n")
