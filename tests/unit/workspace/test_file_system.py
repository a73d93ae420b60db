"""What a file system can hold is found out, on each that the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from git_samples import git

from swarmq.workspace.file_system import file_system_settings

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


def test_what_git_init_finds_out(tmp_path: Path) -> None:
    """Nothing is left of the looking."""
    git(tmp_path, "init", "--quiet", "made-by-git")
    (tmp_path / "here").mkdir()
    found = dict(file_system_settings(tmp_path / "here"))
    assert list((tmp_path / "here").iterdir()) == []
    # git writes down what differs from its defaults, and file modes always
    said = {"core.symlinks": "true", "core.ignorecase": "false", "core.precomposeunicode": "false"}
    for key in said:
        said[key] = git(tmp_path / "made-by-git", "config", "--local", key, check=False) or said[key]
    said["core.filemode"] = git(tmp_path / "made-by-git", "config", "--local", "core.filemode")
    assert found == {key: said[key] for key in found}


def test_a_file_system_without_modes_links_and_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.path.lexists

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def without_case(path: Path) -> bool:
        return any(entry.name.lower() == path.name.lower() for entry in path.parent.iterdir()) or look(path)

    (tmp_path / "here").mkdir()
    monkeypatch.setattr(Path, "chmod", refused)
    monkeypatch.setattr(Path, "symlink_to", refused)
    monkeypatch.setattr(os.path, "lexists", without_case)
    found = dict(file_system_settings(tmp_path / "here"))
    assert (found["core.filemode"], found["core.symlinks"], found["core.ignorecase"]) == ("false", "false", "true")
    assert list((tmp_path / "here").iterdir()) == []
