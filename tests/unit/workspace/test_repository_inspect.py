"""What can be submitted, and the one line that says why something cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from git_samples import add_commit, git, head_of, make_repository, shell, write
from repository_snapshot import snapshot

from swarmq.errors import EnvironmentFault, UsageError
from swarmq.workspace import git as git_module
from swarmq.workspace.git import GitResult
from swarmq.workspace.repository import inspect

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


async def refusal(path: Path, allow_dirty: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        await inspect(path, allow_dirty=allow_dirty)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_clean_repository(user: Path, base: str) -> None:
    before = snapshot(user)
    for path in (user, user / "src"):
        found = await inspect(path, allow_dirty=False)
        assert (found.path, found.commit, found.branch) == (user, base, "main")
    assert snapshot(user) == before
    git(user, "checkout", "--quiet", "--detach")
    assert (await inspect(user, allow_dirty=False)).branch is None
    git(user, "checkout", "--quiet", "-b", "feature/ä")
    assert (await inspect(user, allow_dirty=False)).branch == "feature/ä"
    git(user, "checkout", "--quiet", "main")
    assert snapshot(user) != before  # the control: the snapshot sees a new branch


async def test_paths_that_are_no_repository(user: Path, tmp_path: Path) -> None:
    assert "is not a directory" in await refusal(tmp_path / "none")
    assert "is not a directory" in await refusal(user / "README.md")
    assert "is not a git repository: run 'git init'" in await refusal(tmp_path)
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    assert "is a bare repository: clone it" in await refusal(tmp_path / "bare.git")
    git(tmp_path, "init", "--quiet", "empty")
    assert "has no commit yet" in await refusal(tmp_path / "empty")
    assert "is inside a .git directory" in await refusal(user / ".git")
    (user / ".git" / "config").write_text("[nonsense")
    assert "cannot be read as a git repository: fatal: bad config" in await refusal(user)


async def test_a_damaged_repository_is_no_missing_one(user: Path, base: str) -> None:
    commit = user / ".git" / "objects" / base[:2] / base[2:]
    kept = commit.read_bytes()
    commit.unlink()
    said = await refusal(user)
    assert f"is damaged: commit {base[:12]}, which HEAD names, cannot be read" in said
    assert "git fsck" in said
    commit.parent.mkdir(exist_ok=True)
    commit.write_bytes(kept)
    (user / ".git" / "HEAD").rename(user / ".git" / "HEAD.lost")
    said = await refusal(user / "src")
    assert said.startswith(f"{user}/.git is there, but git cannot use it (HEAD: No such file or directory): mend it")


async def test_another_users_repository_is_told_the_command_that_works(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = user.parent / "Größe und Maß"
    os.rename(user, root)
    result = GitResult(
        128, b"", f"fatal: detected dubious ownership in repository at '{root}'\nTo add an exception ..."
    )
    monkeypatch.setattr(git_module.GitAt, "run", lambda *_, **__: result)
    monkeypatch.setattr("swarmq.workspace.repository.require_git", lambda: None)
    said = await refusal(root / ".." / root.name / "src")
    assert said.endswith(f"git config --global --add safe.directory '{root}'")


async def test_a_dirty_checkout(user: Path, base: str) -> None:
    write(user, {"x.log": "ignored"})
    await inspect(user, allow_dirty=False)
    write(user, {"README.md": "changed\n", "new\nline": "1", "a": "1", "b": "1"})
    before = snapshot(user)
    message = await refusal(user)
    assert "has uncommitted changes (README.md, a, b and 1 more): commit or stash them, or use --allow-dirty" in message
    assert (await inspect(user, allow_dirty=True)).commit == base
    assert snapshot(user) == before
    shell(user, "git stash -qu; touch -d 2001-01-01 README.md")
    before = snapshot(user)
    await inspect(user, allow_dirty=False)  # only touched; and its index is not refreshed by looking
    assert snapshot(user) == before


async def test_a_branch_that_leaves_no_room(user: Path) -> None:
    git(user, "branch", "swarmq/one")
    await inspect(user, allow_dirty=False)
    git(user, "branch", "-D", "swarmq/one")
    git(user, "branch", "swarmq")
    assert "rename it with 'git branch -m swarmq NEW-NAME'" in await refusal(user, allow_dirty=True)
    git(user, "branch", "-D", "swarmq")
    git(user, "update-ref", "refs/swarmq", "HEAD")
    assert "git update-ref -d refs/swarmq" in await refusal(user)


async def test_a_partial_clone_is_refused(user: Path, tmp_path: Path) -> None:
    git(user, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", user.as_uri(), "partial")
    assert "is a partial clone" in await refusal(tmp_path / "partial")


async def test_a_repository_with_a_submodule(user: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    make_repository(library, {"a": "a\n"})
    git(user, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(library), "sub")
    add_commit(user, {}, "Submodule")
    write(user, {"sub/build.out": "1"})
    assert (await inspect(user, allow_dirty=False)).commit == head_of(user)
    assert (await inspect(user / "sub", allow_dirty=True)).path == user / "sub"


async def test_git_missing_or_too_old(user: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git_module.require_git.cache_clear()
    monkeypatch.setattr(git_module.GitAt, "run", lambda self, *a, **k: GitResult(0, b"git version 2.37.9\n", ""))
    with pytest.raises(EnvironmentFault, match=r"2\.37\.9 is too old: swarmq needs git 2\.38 or newer"):
        await inspect(user, allow_dirty=False)
    monkeypatch.undo()
    git_module._gitpython.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="git was not found on PATH: install git 2"):
        await inspect(user, allow_dirty=False)
    monkeypatch.undo()
    git_module.require_git.cache_clear()


async def test_another_user_s_repository(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    shell(user, "chown -R 12345 .")
    assert "git config --global --add safe.directory" in await refusal(user)
