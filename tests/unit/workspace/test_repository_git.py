"""The runner of git, and commits as text."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from git_samples import git
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmq.errors import EnvironmentFault, WorkspaceError
from swarmq.workspace import git as git_module
from swarmq.workspace.commit_object import CommitObject, checkpoint_message, with_trailers
from swarmq.workspace.git import GitAt, quoted, shown
from swarmq.workspace.private_clone import config_text

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


def test_a_lock_of_the_user_is_waited_for_and_never_broken(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "LOCK_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(git_module, "STALE_LOCK_SECONDS", -1.0)
    lock = user / ".git" / "refs" / "swarmq" / "x.lock"
    lock.parent.mkdir()
    lock.touch()
    with pytest.raises(WorkspaceError, match=r"git update-ref failed: .*x\.lock': File exists"):
        GitAt(directory=user).run("update-ref", "refs/swarmq/x", "HEAD", accept=(0, 128))
    assert lock.exists()
    monkeypatch.setattr(git_module, "LOCK_PATIENCE_SECONDS", 5.0)
    release = threading.Timer(0.1, lock.unlink)
    release.start()
    GitAt(directory=user).run("update-ref", "refs/swarmq/x", "HEAD")
    release.join()
    assert git(user, "rev-parse", "refs/swarmq/x")


def test_only_stale_locks_of_our_own_are_broken(user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git's messages hold file names, and an agent chooses those."""
    monkeypatch.setattr(git_module, "LOCK_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(git_module, "STALE_LOCK_SECONDS", -1.0)
    victim = tmp_path / "victim.lock"
    victim.touch()
    at = GitAt(git_dir=user / ".git", index=tmp_path / "index", private=True)
    with pytest.raises(WorkspaceError, match="Unable to create"):
        at.run("rev-parse", f"Unable to create '{victim}': File exists")
    for path in (victim, user / ".git" / ".." / ".." / "victim.lock"):
        at._break_stale(path)
        assert victim.exists()
    for name in (tmp_path / "index.lock", user / ".git" / "refs.lock"):
        name.touch()
        at._break_stale(name)
        assert not name.exists()


def test_how_old_a_lock_is_says_the_clock_of_its_file_system(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared volume that is its server's, and a machine that is ahead would break locks that are held."""
    lock = user / ".git" / "refs.lock"
    lock.touch()
    monkeypatch.setattr(time, "time", lambda: lock.stat().st_mtime + 1000)
    at = GitAt(git_dir=user / ".git", private=True)
    at._break_stale(lock)
    assert lock.exists()
    os.utime(lock, (0, lock.stat().st_mtime - 2 * git_module.STALE_LOCK_SECONDS))
    at._break_stale(lock)
    assert not lock.exists()


def test_git_that_goes_away_is_a_fault_of_the_machine(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GitAt(directory=user).run("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(user))
    with pytest.raises(EnvironmentFault, match="git cannot be started any more"):
        GitAt(directory=user).run("rev-parse", "HEAD")


def test_a_command_that_never_ends_is_killed(user: Path) -> None:
    git(user, "config", "filter.slow.clean", "sleep 60")
    (user / ".gitattributes").write_text("* filter=slow\n")
    began = time.monotonic()
    with pytest.raises(WorkspaceError, match=r"git add took longer than 0\.3 s"):
        GitAt(directory=user, timeout_seconds=0.3).run("add", "-A")
    assert time.monotonic() - began < 10


def test_output_is_kept_up_to_a_limit(user: Path) -> None:
    at = GitAt(directory=user)
    assert at.run("cat-file", "blob", "HEAD:src/text.py", limit_bytes=10).stdout == b"line 0\nlin"
    assert at.run("cat-file", "blob", "HEAD:README.md", limit_bytes=10_000).stdout == b"A sample\n"


def test_a_failure_is_one_line(user: Path) -> None:
    with pytest.raises(WorkspaceError) as caught:
        GitAt(directory=user).run("cat-file", "blob", "HEAD:none")
    assert str(caught.value) == "git cat-file failed: path 'none' does not exist in 'HEAD'"


def test_names_for_people() -> None:
    assert shown("é") == "é"
    assert shown("\udcff.x") == "\\xff.x"


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["core.eol", "filter.A b.clean", 'filter.q"\\.smudge']),
        st.text(alphabet=st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=20),
        min_size=1,
    )
)
def test_settings_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    file = tmp_path_factory.mktemp("config") / "config"
    file.write_bytes(config_text(values.items()))
    listed = GitAt().run("config", "--file", str(file), "--list", "--null").names
    assert dict(entry.split("\n", 1) for entry in listed) == values


def test_paths_of_object_directories_are_quoted() -> None:
    assert quoted("/a/b c") == "/a/b c"
    assert quoted('/a:b"\\\n') == '"/a:b\\"\\\\\\n"'


@settings(max_examples=40, deadline=None)
@given(
    st.text(alphabet="ab: -\n", max_size=30),
    st.dictionaries(
        st.sampled_from(["Swarmq-Swarm", "Swarmq-Subtask"]),
        st.text(alphabet="xy \n", min_size=1, max_size=5).filter(str.strip),
        min_size=1,
    ),
)
def test_trailers_are_read_back(message: str, trailers: dict[str, str]) -> None:
    text = with_trailers("Subject\n\n" + message, trailers)
    shown = GitAt().run("interpret-trailers", "--parse", "--no-divider", stdin=text.encode()).text.splitlines()
    for name, value in trailers.items():
        assert f"{name}: {' '.join(value.split())}" in shown


def test_commits_are_parsed_and_written_back(user: Path) -> None:
    raw = (
        b"tree 1111111111111111111111111111111111111111\n"
        b"parent 2222222222222222222222222222222222222222\nparent 3333333333333333333333333333333333333333\n"
        b"author A <a@b.c> 1 +0000\ncommitter C <c@b.c> 2 +0100\n"
        b"gpgsig -----BEGIN\n \n line\n -----END\nencoding latin1\n\nSubject \xe9\n\nBody\n"
    )
    parsed = CommitObject.parse(raw)
    assert parsed.raw() == raw
    assert [parent[0] for parent in parsed.parents] == ["2", "3"]
    again = parsed.rewritten(("4" * 40,), {"Key": "value"}).raw()
    assert b"gpgsig" not in again
    assert b"-----END" not in again
    assert b"encoding latin1\n\nSubject \xe9\n\nBody\n\nKey: value\n" in again
    assert b"parent 4444" in again
    assert parsed.checkpoint_base is None
    message = checkpoint_message("5" * 40, 7).encode()
    assert CommitObject("", (), (), message).checkpoint_base == "5" * 40
