from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmq.errors import ToolError
from swarmq.workspace.guard import resolve_in_any, resolve_inside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a\n")
    (tmp_path / "secret").write_text("secret\n")
    return root


def test_accepts_paths_inside(root: Path) -> None:
    real = root.resolve()
    assert resolve_inside(root, "src/a.py") == real / "src/a.py"
    assert resolve_inside(root, str(root / "src/a.py")) == real / "src/a.py"
    assert resolve_inside(root, ".") == real
    assert resolve_inside(root, "src/../src/a.py") == real / "src/a.py"
    assert resolve_inside(root, "new/dir/file") == real / "new/dir/file"
    assert resolve_inside(root, ".github/workflows") == real / ".github/workflows"
    assert resolve_inside(root, ".gitignore") == real / ".gitignore"


@pytest.mark.parametrize(
    ("given_path", "rule"),
    [
        ("../secret", "leads out of the working directory"),
        ("src/../../secret", "leads out of the working directory"),
        ("/etc/passwd", "leads out of the working directory"),
        ("../work-sibling/file", "leads out of the working directory"),
        ("", "empty"),
        ("a\0b", "NUL"),
        ("~", "not expanded"),
        ("~/x", "not expanded"),
        ("a" * 5000, "the system takes"),
        ("a" * 300, "File name too long"),
        ("bad\ud800name", "not valid Unicode"),
        (".git", "belongs to git"),
        (".git/config", "belongs to git"),
        (".GIT/config", "belongs to git"),
        ("src/.git/hooks/pre-commit", "belongs to git"),
    ],
)
def test_refuses_and_names_the_rule(root: Path, given_path: str, rule: str) -> None:
    with pytest.raises(ToolError, match=rule):
        resolve_inside(root, given_path)


def test_a_sibling_whose_name_starts_alike_is_outside(root: Path) -> None:
    (root.parent / "work-sibling").mkdir()
    with pytest.raises(ToolError, match="leads out"):
        resolve_inside(root, str(root.parent / "work-sibling" / "x"))


def test_symlinks_are_followed_before_the_check(root: Path) -> None:
    (root / "out").symlink_to(root.parent)
    (root / "leaf").symlink_to(root.parent / "secret")
    (root / "dangling").symlink_to(root.parent / "not-yet")
    (root / "inner").symlink_to("src")
    (root / "to-git").symlink_to(".git")
    (root / ".git").mkdir()

    for leads_out in ("out/secret", "leaf", "dangling", "out/new-file", "inner/../../secret"):
        with pytest.raises(ToolError, match="leads out"):
            resolve_inside(root, leads_out)
    assert resolve_inside(root, "inner/a.py") == root.resolve() / "src/a.py"
    with pytest.raises(ToolError, match="belongs to git"):
        resolve_inside(root, "to-git/config")


def test_nothing_hides_behind_a_loop_of_symlinks(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    (root / "etc").symlink_to("/etc")
    for path in ("loop", "loop/../etc/passwd", "missing/../loop/../etc/passwd", "loop/x"):
        with pytest.raises(ToolError):
            resolve_inside(root, path)


def test_a_root_behind_a_symlink(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert resolve_inside(link, "src/a.py") == root.resolve() / "src/a.py"
    assert resolve_inside(link, str(link / "src/a.py")) == root.resolve() / "src/a.py"


def test_further_roots_take_absolute_paths_only(root: Path, tmp_path: Path) -> None:
    root, other = root.resolve(), tmp_path.resolve() / "other"
    other.mkdir()
    (other / "b.txt").write_text("b")
    assert resolve_in_any((root, other), str(other / "b.txt")) == other.resolve() / "b.txt"
    assert resolve_in_any((root, other), "b.txt") == root.resolve() / "b.txt"
    with pytest.raises(ToolError, match="leads out"):
        resolve_in_any((root, other), str(tmp_path / "secret"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every directory")
def test_a_directory_that_may_not_be_entered(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(ToolError, match="Permission denied"):
        resolve_inside(root, "closed/x")


@given(st.lists(st.sampled_from(["..", ".", "src", "out", "loop", "inner", "a.py", "new", ".git", ""]), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_whatever_is_accepted_is_inside(root: Path, parts: list[str]) -> None:
    for name, target in (("out", ".."), ("loop", "loop"), ("inner", "src")):
        if not (root / name).is_symlink():
            (root / name).symlink_to(target)
    try:
        path = resolve_inside(root, "/".join(parts))
    except ToolError:
        return
    real = root.resolve()
    assert path == real or real in path.parents
    assert Path(os.path.realpath(path)) == path
    assert ".git" not in path.relative_to(real).parts
