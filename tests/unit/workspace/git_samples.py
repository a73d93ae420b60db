"""Small real repositories for the tests of the git layer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from swarmq.models.swarm import MergeReport
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository, Worktree

SWARM = "k3x9qm2p4t"
OWNER = ("-c", "user.name=Owner", "-c", "user.email=owner@example.com", "-c", "commit.gpgSign=false")


def git(where: Path, *arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
    """Plain git, as a user or an agent runs it; its output without the last line break."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.environ.get("GIT_CONFIG_GLOBAL", os.devnull)}
    command = ["git", *OWNER, "-C", str(where), *arguments]
    done = subprocess.run(command, env=variables, input=stdin, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode("utf-8", "replace").rstrip("\n")


def make_repository(where: Path, files: dict[str, str | bytes], *options: str) -> str:
    """A repository with one commit on ``main``; its id."""
    where.mkdir(parents=True, exist_ok=True)
    git(where, "init", "--quiet", "--initial-branch=main", *options)
    return add_commit(where, files, "Start")


def add_commit(where: Path, files: dict[str, str | bytes], message: str) -> str:
    """Write files, commit all there is; the commit's id."""
    write(where, files)
    git(where, "add", "-A")
    git(where, "commit", "--quiet", "--allow-empty", "-m", message)
    return head_of(where)


def write(where: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def head_of(where: Path, ref: str = "HEAD") -> str:
    return git(where, "rev-parse", "--verify", ref)


def file_at(where: Path, commit: str, name: str) -> str:
    return git(where, "cat-file", "blob", f"{commit}:{name}")


def names_at(where: Path, commit: str) -> list[str]:
    return [name for name in git(where, "ls-tree", "-r", "-z", "--name-only", commit).split("\0") if name]


def clone_of(swarm: SwarmRepository) -> Path:
    """The private clone's directory."""
    return swarm._clone.git_dir


FILES: dict[str, str | bytes] = {
    "README.md": "A sample\n",
    "src/app.py": "def add(a, b):\n    return a - b\n",
    "src/text.py": "".join(f"line {number}\n" for number in range(40)),
    ".gitignore": "*.log\nbuild/\n.env\n",
}


async def finished(swarm: SwarmRepository, branch: str, start: str, files: dict[str, str | bytes]) -> str:
    """A finished commit of a branch that writes some files."""
    worktree: Worktree = await swarm.open_worktree(branch, 1, start)
    write(worktree.path, files)
    made = await swarm.commit(worktree, message=f"Work of {branch}", trailers={"Swarmq-Branch": branch})
    assert made is not None
    return made.commit


async def integrated(swarm: SwarmRepository, commit: str, message: str = "Merge") -> MergeReport:
    """Merge a finished commit and let it land; again on what another one left who was first."""
    while True:
        prepared = await swarm.prepare_merge(commit, message=message)
        report = await swarm.land(prepared) if isinstance(prepared, PreparedMerge) else prepared
        if report is not None:
            return report


def shell(where: Path, script: str) -> None:
    """What an agent's shell does in its worktree; ``git`` in it is plain git."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{role}_NAME": "Agent", f"GIT_{role}_EMAIL": "agent@example.com"}
    done = subprocess.run(["sh", "-euc", script], cwd=where, env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def traces(where: Path) -> list[str]:
    """Marks that commands of an attacker left there."""
    return sorted(name for name in os.listdir(where) if name.startswith("ran-"))
