from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarmq.devstack.layout import Layout, prepare_runtime, prepare_state, read_password, redis_url, write_private
from swarmq.errors import EnvironmentFault
from swarmq.settings import load_settings


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Short paths, whatever the temporary directory is called: the limit is tested apart."""
    monkeypatch.setattr("swarmq.devstack.layout.SOCKET_PATH_BYTES", 1000)
    return Layout(tmp_path / "state", tmp_path / "run")


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout.of(load_settings(state_dir="here", runtime_dir="there"))
    assert layout.state_dir == tmp_path / "here"
    assert layout.socket == tmp_path / "there" / "valkey.sock"


def test_makes_private_directories(layout: Layout) -> None:
    prepare_state(layout)
    prepare_runtime(layout)
    for directory in (layout.stack_dir, layout.data_dir, layout.log_dir, layout.runtime_dir, layout.workers_dir):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_names_the_state_directory_that_cannot_be_made(layout: Layout) -> None:
    layout.state_dir.write_text("a file")
    with pytest.raises(EnvironmentFault, match=rf"{layout.state_dir}: .*exists.*SWARMQ_STATE_DIR"):
        prepare_state(layout)


def test_names_the_state_directory_that_cannot_be_written(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != layout.stack_dir)
    with pytest.raises(EnvironmentFault, match=rf"{layout.stack_dir}: not writable; .*SWARMQ_STATE_DIR"):
        prepare_state(layout)


def test_refuses_a_runtime_directory_too_long_for_sockets(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / ("ü" * 60))
    with pytest.raises(EnvironmentFault, match=r"103 bytes; choose another with SWARMQ_RUNTIME_DIR"):
        prepare_runtime(layout)
    assert not layout.runtime_dir.exists()


def test_refuses_the_runtime_directory_of_somebody_else(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.runtime_dir.mkdir(mode=0o700)
    owner = layout.runtime_dir.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(EnvironmentFault, match=rf"belongs to another user \(uid {owner}\)"):
        prepare_runtime(layout)


def test_refuses_a_runtime_directory_that_others_may_write(layout: Layout) -> None:
    layout.runtime_dir.mkdir()
    layout.runtime_dir.chmod(0o770)
    with pytest.raises(EnvironmentFault, match="others may write to it; chmod 700"):
        prepare_runtime(layout)


def test_closes_a_runtime_directory_that_others_may_read(layout: Layout) -> None:
    layout.runtime_dir.mkdir()
    layout.runtime_dir.chmod(0o755)
    prepare_runtime(layout)
    assert layout.runtime_dir.stat().st_mode & 0o777 == 0o700


def test_refuses_a_symbolic_link_as_runtime_directory(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    layout.runtime_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFault, match="not a directory"):
        prepare_runtime(layout)


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o666)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_password_is_made_once(layout: Layout) -> None:
    prepare_state(layout)
    with pytest.raises(FileNotFoundError):
        read_password(layout)
    password = read_password(layout, create=True)
    assert len(password) >= 40
    assert read_password(layout, create=True) == read_password(layout) == password


def test_the_url_survives_odd_characters() -> None:
    layout = Layout(Path("/s"), Path("/run/a b#c"))
    assert redis_url(layout, "p/w") == "redis+socket://:p%2Fw@/run/a%20b%23c/valkey.sock?virtual_host=0"
