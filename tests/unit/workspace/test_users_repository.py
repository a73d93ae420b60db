"""A swarm leaves the user's repository as it is, byte for byte, until ``--merge``; that only moves a branch forward.

The repository has all that a careless git command would touch, and settings that would make it touch more.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, finished, git, head_of, integrated, make_repository, shell, traces, write
from repository_snapshot import changed, snapshot

from swarmq.errors import UsageError
from swarmq.models.swarm import MergeReport
from swarmq.workspace.publishing import fast_forward
from swarmq.workspace.repository import inspect
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

HOOKS = (
    *("pre-commit", "commit-msg", "post-commit", "post-checkout", "pre-merge-commit", "post-merge", "pre-rebase"),
    *("post-rewrite", "pre-push", "reference-transaction", "post-index-change", "pre-auto-gc", "push-to-checkout"),
)
SETTINGS = """
[core]
    fsmonitor = "touch {trace}-fsmonitor; false"
    logAllRefUpdates = always
    untrackedCache = true
    pager = touch {trace}-pager
[commit]
    gpgSign = true
[merge]
    autoStash = true
    conflictStyle = zdiff3
    verifySignatures = true
[merge "loud"]
    driver = echo loud
[branch "main"]
    mergeOptions = --squash
[diff]
    external = touch {trace}-diff
[diff "loud"]
    textconv = touch {trace}-textconv
[rerere]
    enabled = true
    autoUpdate = true
[fetch]
    prune = true
    pruneTags = true
    writeCommitGraph = true
[remote "origin"]
    url = {origin}
    fetch = +refs/heads/*:refs/remotes/origin/*
    prune = true
[gc]
    auto = 1
    autoDetach = false
[maintenance]
    auto = true
    strategy = incremental
[i18n]
    commitEncoding = ISO-8859-1
[status]
    submoduleSummary = true
[advice]
    detachedHead = true
"""


@pytest.fixture
def lived_in(user: Path, tmp_path: Path) -> Path:
    """Branches, tags, notes, a stash, a linked worktree, a remote, staged and unstaged changes, hooks and settings."""
    add_commit(user, {".gitattributes": "*.md diff=loud\n*.lock merge=loud\n"}, "Attributes")
    git(user, "tag", "-a", "-m", "One", "v1")
    git(user, "branch", "topic", "HEAD^")
    git(user, "notes", "add", "-m", "A note")
    git(user, "update-ref", "refs/remotes/origin/gone", "HEAD")
    git(user, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    make_repository(tmp_path / "origin", {"a": "1"})
    write(user, {"README.md": "Stashed\n"})
    git(user, "stash", "--quiet")
    write(user, {"src/app.py": "staged = 1\n"})
    git(user, "add", "src/app.py")
    write(user, {"README.md": "Not staged\n", "untracked": "1\n", ".env": "KEY=1\n"})
    git(user, "update-index", "--assume-unchanged", ".gitignore")
    for name in HOOKS:
        hook = user / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n")
        hook.chmod(0o755)
    with (user / ".git" / "config").open("a") as file:
        file.write(SETTINGS.format(trace=tmp_path / "ran", origin=tmp_path / "origin"))
    return user


async def whole_swarm(swarm: SwarmRepository, base: str) -> str:
    """Everything that a swarm does with git, up to its result branch; that one's commit."""
    await swarm.prepare()
    await swarm.open_reader(0, base)
    first = await finished(swarm, "a", base, {"src/text.py": "ours\n", "README.md": "Changed\n"})
    second = await finished(swarm, "b", base, {"src/text.py": "theirs\n"})
    one = await integrated(swarm, first, "Grüße")
    conflict = await swarm.prepare_merge(second, message="Merge b")
    assert isinstance(conflict, MergeReport)
    assert conflict.status == "conflict"
    start = one.commit or ""
    await swarm.conflict_description(start, second)
    worktree = await swarm.open_resolver("b.r1", 1, start, second)
    write(worktree.path, {"src/text.py": "both\n"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    made = await swarm.commit(worktree, message="Resolve", trailers={}, theirs=second)
    assert made is not None
    dropped = await swarm.prepare_merge(made.commit, message="Merge b")
    assert isinstance(dropped, PreparedMerge)
    verified = await swarm.open_detached("verify", dropped.commit)
    await swarm.copy_ignored(verified, [".env"])
    await swarm.remove_worktree(verified)
    await swarm.drop(dropped)
    await integrated(swarm, made.commit, "Merge b")
    await swarm.keep_result("k", first)
    published = await swarm.publish()
    assert published is not None
    await swarm.diff(base, published[1])
    await swarm.log_graph()
    return published[1]


async def test_all_of_it_stays_as_it_is(lived_in: Path, tmp_path: Path) -> None:
    base, linked = head_of(lived_in), snapshot(tmp_path / "linked")
    git(lived_in, "status", "--porcelain")  # what git itself would refresh
    clear(tmp_path)
    before = snapshot(lived_in)
    await inspect(lived_in, allow_dirty=True)
    swarm = SwarmRepository(tmp_path / "state", SWARM, lived_in, base)
    tip = await whole_swarm(swarm, base)
    assert changed(before, snapshot(lived_in)) == set()
    for branch in ("main", "topic"):
        with pytest.raises(UsageError):  # changes, or no fast-forward
            await fast_forward(lived_in, branch if branch == "main" else "none", tip)
    assert changed(before, snapshot(lived_in)) == set()
    await swarm.remove()
    assert changed(before, snapshot(lived_in)) == set()
    assert snapshot(tmp_path / "linked") == linked
    assert traces(tmp_path) == []
    assert head_of(lived_in, f"refs/heads/swarmq/{SWARM}") == tip
    assert "Grüße" in git(lived_in, "log", "--encoding=utf-8", "--format=%s", tip)
    git(lived_in, "fsck", "--full", "--strict")


async def test_a_merge_moves_one_branch_forward(lived_in: Path, tmp_path: Path) -> None:
    git(lived_in, "-c", "core.hooksPath=/dev/null", "reset", "--quiet", "--hard")
    base = head_of(lived_in)
    swarm = SwarmRepository(tmp_path / "state", SWARM, lived_in, base)
    tip = await whole_swarm(swarm, base)
    clear(tmp_path)
    before = snapshot(lived_in)
    await fast_forward(lived_in, "topic", tip)
    assert changed(before, snapshot(lived_in)) == {".git/refs/heads/topic", ".git/logs/refs/heads/topic"}
    before = snapshot(lived_in)
    await fast_forward(lived_in, "main", tip)
    after = snapshot(lived_in)
    await fast_forward(lived_in, "main", tip)
    assert changed(after, snapshot(lived_in)) == set()
    assert traces(tmp_path) == []
    moved = {".git/index", ".git/refs/heads/main", ".git/logs/HEAD", ".git/logs/refs/heads/main"}
    assert changed(before, after) == moved | {"README.md", "src/text.py"}
    assert (head_of(lived_in), (lived_in / "src/text.py").read_text()) == (tip, "both\n")
    for log in (".git/logs/HEAD", ".git/logs/refs/heads/main"):
        grown = after[log][2].removeprefix(before[log][2])
        assert (grown.count(b"\n"), grown.split()[:2]) == (1, [base.encode(), tip.encode()])
    assert git(lived_in, "ls-files", "-v", ".gitignore").startswith("h ")
    assert git(lived_in, "-c", "core.fsmonitor=false", "status", "--porcelain") == "?? untracked"


@pytest.mark.parametrize("form", ["sparse", "shallow"])
async def test_part_of_a_repository_stays_part_of_it(form: str, user: Path, tmp_path: Path) -> None:
    add_commit(user, {"deep/in/file": "1\n", "top": "1\n"}, "Second")
    where = tmp_path / "part"
    options = ["--depth=1"] if form == "shallow" else ["--sparse"]
    git(tmp_path, "clone", "--quiet", *options, user.as_uri(), str(where))
    if form == "sparse":
        git(where, "sparse-checkout", "set", "--cone", "--sparse-index", "src")
    base, before = head_of(where), snapshot(where)
    swarm = SwarmRepository(tmp_path / "state", SWARM, where, base)
    both = await finished(swarm, "c", base, {"deep/in/file": "2\n"})
    await integrated(swarm, both, "Merge c")
    tip = await whole_swarm(swarm, base)
    assert changed(before, snapshot(where)) == set()
    await fast_forward(where, "main", tip)
    assert (head_of(where), git(where, "status", "--porcelain")) == (tip, "")
    assert (where / "src" / "text.py").read_text() == "both\n"
    assert (where / "deep").exists() == (form == "shallow")
    assert git(where, "rev-parse", "--is-shallow-repository") == str(form == "shallow").lower()
    shell(where, "git fsck --full")


def clear(place: Path) -> None:
    """Forget what git of the test's own has run."""
    for name in traces(place):
        os.unlink(place / name)
