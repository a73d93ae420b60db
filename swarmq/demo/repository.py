"""The demo's repository: a small package with real defects and a suite that fails because of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import UsageError

HERE = Path(__file__).parent
SAMPLE = HERE / "sample"
MODEL = f"scripted:{HERE / 'script.yaml'}"
TASK = "Make the test suite of this repository pass, and write down what changed."

SUITE = ("-m", "unittest", "discover", "-s", "tests", "-t", ".")
SUITE_TIMEOUT_SECONDS = 60
_IDENTITY = ("-c", "user.name=swarmq demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")


@dataclass(frozen=True)
class SuiteRun:
    """What one run of the suite said. ``summary`` is unittest's own last line."""

    passed: bool
    tests: int
    summary: str

    def __str__(self) -> str:
        return f"{self.tests} tests, {self.summary}"


def prepare(path: Path) -> Path:
    """Make the repository in a new or empty directory, with one commit. UsageError where that cannot be done."""
    try:
        if path.exists() and any(path.iterdir()):
            raise UsageError(f"{path} is not empty: name a new directory with --directory")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a new directory with --directory") from None
    shutil.copytree(SAMPLE, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for command in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "-m", "A shop"),
    ):
        subprocess.run(["git", *_IDENTITY, *command], cwd=path, check=True, capture_output=True)
    return path


def run_suite(path: Path) -> SuiteRun:
    """Run the suite with this interpreter and the standard library alone, leaving no caches behind."""
    done = subprocess.run(
        [sys.executable, "-B", *SUITE],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_SECONDS,
        check=False,
    )
    count = re.search(r"Ran (\d+) test", done.stderr)
    return SuiteRun(done.returncode == 0, int(count.group(1)) if count else 0, done.stderr.strip().rpartition("\n")[2])


def checkout(path: Path, branch: str, into: Path) -> Path:
    """The files of a branch in a directory of their own: the demo's checkout stays as it was."""
    into.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", branch], cwd=path, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(into)], input=archive, check=True)
    return into


def log_graph(path: Path, branch: str) -> str:
    return subprocess.run(
        ["git", "log", "--graph", "--oneline", "--decorate", branch],
        cwd=path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def diffstat(path: Path, branch: str) -> str:
    return subprocess.run(
        ["git", "diff", "--stat", f"main...{branch}"], cwd=path, check=True, capture_output=True, text=True
    ).stdout
