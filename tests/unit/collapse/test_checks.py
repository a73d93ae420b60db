"""Static checks: what is wrong with a file, and what nothing is said about."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmq.collapse.checks import (
    MARKERS,
    MOST_BYTES,
    PROBLEM_CHARACTERS,
    check_files,
    checkable,
    excused,
    suspects,
    syntax_problem,
    told,
    unread_blobs,
)
from swarmq.workspace.surveying import ChangedFile, Survey

CONFLICT = b"a = 1\n<<<<<<< ours\na = 2\n=======\na = 3\n>>>>>>> theirs\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.py", "def f(:\n", "line 1: invalid syntax"),
        ("a.py", "return 1\n", "line 1: 'return' outside function"),
        ("a.pyi", "x: int\nfor", "line 2: invalid syntax"),
        ("a.py", "x = '\\d'\n", None),  # a warning is no problem, and none comes out
        ("a.py", "await main()\n", None),  # notebooks and consoles
        ("a.py", "# -*- coding: latin-1 -*-\nx = 1\n", None),
        ("a.py", "(" * 150 + ")" * 150, None),
        ("a.json", '{"a": 1,}', "Illegal trailing comma"),
        ("a.json", '{"a": [1, NaN]}', None),
        ("a.json", "[" * 100_000, None),
        ("tsconfig.json", '{"a": 1, // why\n}', None),
        ("a.toml", "a = \n", "Invalid value"),
        ("a.toml", "a = 1\n", None),
        ("a.yaml", "a: [1, 2\nb: 3\n", "line 2"),
        ("a.yml", "a: !Ref b\n---\nc: *d\n", None),
        ("chart/templates/a.yaml", "a: {{ .Values.b }}\n", None),
        ("{{cookiecutter.name}}/a.py", "import {{ x }}\n", None),
        ("a.txt", "def f(:", None),
        ("a.py", "\ufeffx = 1\n", None),
        ("a.py", "(" * (MOST_BYTES + 1), None),
    ],
)
def test_the_syntax_of_a_file(name: str, content: str, problem: str | None) -> None:
    found = syntax_problem(name, content.encode())
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found or name.endswith(".json")  # json's words differ from version to version


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(("a.py", "a.json", "a.toml", "a.yaml")), st.binary(max_size=400))
def test_no_content_raises(name: str, content: bytes) -> None:
    found = syntax_problem(name, content)
    assert found is None or found


def survey(*files: ChangedFile) -> Survey:
    return Survey(files, 1)


def test_a_file_that_was_not_right_before_is_not_held_against_a_branch() -> None:
    changed = survey(ChangedFile("fixture.py", "new", "old"), ChangedFile("fresh.py", "fresh", None))
    found = check_files(changed, {"new": b"print 'x'\n", "fresh": b"print 'z'\n"}, {})
    asked = suspects(changed, found, {})
    assert [file.name for file in asked] == ["fixture.py", "fresh.py"]
    found |= excused(asked, found, {"old": b"print 'y'\n"}, ())
    assert [line.partition(":")[0] for line in told(changed, found)] == ["fresh.py"]
    assert suspects(changed, found, known=found) == []


def test_conflict_markers_count_where_both_sides_are_there_and_the_branch_added_them() -> None:
    heading = b"Title\n=======\n"
    changed = survey(
        ChangedFile("a.c", "c", None), ChangedFile("b.rst", "r", None), ChangedFile("how-to-merge.md", "m", "m0")
    )
    found = check_files(changed, {"c": CONFLICT, "r": heading, "m": CONFLICT}, {})
    assert found == {"c": MARKERS, "r": None, "m": MARKERS}
    assert excused(suspects(changed, found, {}), found, {}, {"a.c"}) == {"m": None}


def test_what_was_checked_before_is_not_read_again() -> None:
    changed = survey(
        ChangedFile("a.py", "one", "zero"), ChangedFile("b.py", "two", None), ChangedFile("gone.py", None, "x")
    )
    assert unread_blobs(changed, known={"one": "line 1: bad"}) == ["two"]
    found = check_files(changed, {"two": b"x = 1\n"}, {"one": "line 1: bad"})
    assert found == {"one": "line 1: bad", "two": None}


def test_problems_are_short_and_few() -> None:
    files = tuple(ChangedFile(f"f{n}.py", str(n), None) for n in range(9))
    lines = told(survey(*files), {str(n): "x\n" * 500 for n in range(9)})
    assert len(lines) == 5
    assert all(len(line) <= PROBLEM_CHARACTERS and "\n" not in line for line in lines)


def test_which_names_can_be_checked() -> None:
    assert checkable("src/a.py")
    assert not checkable("Makefile")
    assert not checkable(".vscode/settings.json")
