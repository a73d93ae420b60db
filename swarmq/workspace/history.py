"""Looking at what a swarm has made, in its private clone or, once that is gone, in the user's repository."""

from __future__ import annotations

from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone, valid_commit

DIFF_BYTES = 5_000_000


def integration_commit(clone: PrivateClone) -> str:
    """The tip of the integration branch; the base where nothing has been merged, or nothing is left of it."""
    found = _git(clone).run("rev-parse", "--verify", "--quiet", clone.integration_ref, accept=(0, 1))
    return found.text or clone.base_commit


def diff(clone: PrivateClone, old: str, new: str, stat: bool) -> str:
    """The change between two commits as a patch (cut at 5 MB, saying so) or as a diffstat."""
    form = ("--stat=100",) if stat else ("-p",)
    options = ("-r", "--find-renames", "--no-ext-diff", "--no-textconv", *form)
    output = _git(clone).run("diff-tree", *options, valid_commit(old), valid_commit(new), limit_bytes=DIFF_BYTES)
    text = output.stdout.decode("utf-8", "replace")
    return text if len(output.stdout) < DIFF_BYTES else f"{text}\n[cut at {DIFF_BYTES // 1_000_000} MB]\n"


def log_graph(clone: PrivateClone) -> str:
    """The commits since the base, with the base as the last one."""
    tip, base = integration_commit(clone), clone.base_commit
    what = ["-1", tip] if tip == base else ["--graph", "--boundary", tip, f"^{base}"]
    return _git(clone).run("log", "--oneline", "--no-color", *what).stdout.decode("utf-8", "replace")


def _git(clone: PrivateClone) -> GitAt:
    return clone.git if clone.git_dir.is_dir() else clone.user_git
