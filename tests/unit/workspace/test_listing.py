"""A pipe where git reads a file holds nobody up for long, and only once."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import clone_of, names_at, shell, write

from swarmq.errors import GitTimeout, UncommittableError
from swarmq.workspace import listing
from swarmq.workspace.git import GitAt
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

PIPES = {
    "d/.gitignore": "mkdir d; mkfifo d/.gitignore",
    ".gitignore": "rm .gitignore; mkfifo .gitignore",
    "d/.gitattributes": "mkdir d; mkfifo d/.gitattributes; echo 1 > d/x",
    "d/.git/HEAD": "mkdir -p d/.git/objects d/.git/refs; mkfifo d/.git/HEAD",
}


@pytest.mark.parametrize("name", list(PIPES))
async def test_a_pipe_that_git_reads_is_named(
    name: str, base: str, swarm: SwarmRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LISTING_SECONDS", 0.5)
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, PIPES[name])
    write(worktree.path, {"new": "1"})
    with pytest.raises(UncommittableError, match=rf"git reads {name}, and that is neither"):
        await swarm.checkpoint(worktree, None)
    asked: list[str] = []
    run = GitAt.run

    def watched(at: GitAt, *arguments: str, **others: object) -> object:
        asked.append(arguments[0])
        return run(at, *arguments, **others)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(GitAt, "run", watched)
        (told,) = await swarm.refused_files(worktree)
        with pytest.raises(UncommittableError):
            await swarm.checkpoint(worktree, None)
        with pytest.raises(UncommittableError):
            await swarm.commit(worktree, message="x", trailers={})
    assert name in told
    if name != "d/.gitattributes":
        assert asked == [], "git is not asked again"
    (worktree.path / name).unlink()
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert "new" in names_at(clone_of(swarm), saved)


async def test_a_slow_listing_that_nothing_holds_up_is_begun_again(
    base: str, swarm: SwarmRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"new": "1"})
    run, limits = GitAt.run, []

    def slow(at: GitAt, *arguments: str, **others: object) -> object:
        if arguments[0] == "ls-files":
            limits.append(at.timeout_seconds)
            if len(limits) == 1:
                raise GitTimeout("git ls-files took longer")
        return run(at, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(GitAt, "run", slow)
    assert await swarm.changed_files(worktree) == ("new",)
    assert limits[0] == listing.LISTING_SECONDS < limits[1]


def test_a_command_that_is_killed_says_so(tmp_path: Path) -> None:
    (tmp_path / "pipe").touch()
    shell(tmp_path, "rm pipe; mkfifo pipe")
    with pytest.raises(GitTimeout, match=r"git hash-object took longer than 0\.2 s"):
        GitAt(directory=tmp_path, timeout_seconds=0.2).run("hash-object", "pipe")
