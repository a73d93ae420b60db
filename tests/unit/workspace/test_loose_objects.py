"""Commits that are written without git, as git reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from git_samples import git, make_repository

from swarmq.workspace.commit_object import CommitObject
from swarmq.workspace.commits import signature
from swarmq.workspace.git import IDENTITY
from swarmq.workspace.loose_objects import store_commit

AT = 1_700_000_000


@pytest.fixture(params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_repository(tmp_path, {"a": "a\n"}, f"--object-format={request.param}")
    return tmp_path


def written(repository: Path, author: str = IDENTITY, message: bytes = b"A message\n") -> str:
    """A commit on the first one, of the same tree."""
    parent, tree = git(repository, "rev-parse", "HEAD", "HEAD^{tree}").split()
    headers = signature("author", author, AT), signature("committer", IDENTITY, AT)
    return store_commit(repository / ".git" / "objects", CommitObject(tree, (parent,), headers, message))


def test_it_is_what_git_would_have_made(repository: Path) -> None:
    variables = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "swarmq"), ("EMAIL", "swarmq@localhost"), ("DATE", f"{AT} +0000"))
    }
    made = subprocess.run(
        ["git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "A message"],
        cwd=repository,
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository), **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert written(repository) == made


@pytest.mark.parametrize("author", [IDENTITY, "A <B> C\n\0 <d e@f>", "<>", "Zoë <zoe@x>", "\udcff <x@y>"])
def test_git_takes_it_whoever_the_author_is(repository: Path, author: str) -> None:
    commit = written(repository, author, "Grüße \udcff\n".encode("utf-8", "surrogateescape"))
    git(repository, "update-ref", "refs/heads/new", commit)
    git(repository, "fsck", "--strict", "--no-dangling")
    assert git(repository, "log", "--format=%cn <%ce>", "-1", "new").strip() == IDENTITY
    assert len(git(repository, "log", "--format=%an%x00%ae%x00%at", "-1", "new").strip().split("\0")) == 3


def test_writing_it_twice_is_once(repository: Path) -> None:
    assert written(repository) == written(repository)
    assert not list((repository / ".git" / "objects").rglob("tmp_obj_*"))
