"""What declared files stand for, and whether two declarations may stand for the same file."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import PlanError
from swarmq.models.file_globs import MAX_GLOBS, matches, may_meet
from swarmq.models.plan import Plan, Subtask

NAMES = ("a", "b", "ab")
FILES = ["/".join(names) for depth in (1, 2, 3, 4) for names in product(NAMES, repeat=depth)]
"""A small world, deep enough for two patterns one below the other: where two of them meet at all, they meet here."""
PATTERNS = st.lists(st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "[ab]"]), min_size=1, max_size=2)
GLOBS = PATTERNS.map("/".join)


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("src/a.py", "src/a.py", True),
        ("src/a.py", "src/b.py", False),
        ("src", "src/deep/a.py", True),
        ("src", "srcs/a.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/deep/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/x/y/a.py", True),
        ("**/test_?.py", "tests/unit/test_a.py", True),
        ("**/test_?.py", "tests/unit/test_ab.py", False),
        ("*", "a/b/c", True),  # any name at the root, and what is below it
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("A.py", "a.py", False),
    ],
)
def test_what_a_glob_stands_for(glob: str, path: str, expected: bool) -> None:
    assert matches(path, glob) is expected


@given(GLOBS, GLOBS)
def test_two_may_meet_where_a_file_is_of_both(one: str, other: str) -> None:
    meet = any(matches(file, one) and matches(file, other) for file in FILES)
    assert may_meet(one, other) == may_meet(other, one)
    if "[" not in one + other:
        assert may_meet(one, other) == meet
    elif meet:
        assert may_meet(one, other), "it may say so too often, and never too seldom"


@given(GLOBS)
def test_each_meets_itself(glob: str) -> None:
    assert may_meet(glob, glob)


def test_long_patterns_take_no_time() -> None:
    """Backtracking would need longer than the universe has."""
    assert not may_meet("*a" * 140, "*a" * 140 + "b")
    assert not matches("x/" * 140 + "y", "/".join(["**", "x"] * 70) + "/z")


@pytest.mark.parametrize(
    ("given_as", "kept"),
    [
        (["./src/a.py", "src/a.py", "src//a.py"], ("src/a.py",)),
        (["src/"], ("src",)),
        (["."], ("**",)),
        ([" a b.txt "], ("a b.txt",)),
        ([], ()),
    ],
)
def test_declarations_are_kept_in_one_form(given_as: list[str], kept: tuple[str, ...]) -> None:
    assert Subtask(name="A", instruction="a", files=tuple(given_as)).files == kept


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["/etc/passwd"], "'/etc/passwd' is absolute"),
        (["src/../../x"], "leads out of the repository"),
        ([""], "is no path"),
        (["a\x00b"], "is no path"),
        (["x" * 301], "is no path"),
        ([f"f{n}" for n in range(MAX_GLOBS + 1)], "at most 50"),
    ],
)
def test_what_is_no_path_of_a_repository_is_refused(files: list[str], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Plan.parse([{"name": "A", "instruction": "a", "files": files}])
