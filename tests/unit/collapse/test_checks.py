"""Static checks: what is wrong with a file, and what nothing is said about."""

from __future__ import annotations

import asyncio

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
    syntax_problems,
    told,
    unread_blobs,
)
from swarmq.collapse.syntax import problem_of
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
async def test_the_syntax_of_a_file(name: str, content: str, problem: str | None) -> None:
    found = (await syntax_problems({"it": (name, content.encode())}))["it"]
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found or name.endswith(".json")  # json's words differ from version to version


@pytest.mark.filterwarnings("ignore")  # the program ignores all that the compiler warns of
@settings(max_examples=60, deadline=None)
@given(st.sampled_from((".py", ".json", ".toml", ".yaml")), st.binary(max_size=400))
def test_no_content_raises(suffix: str, content: bytes) -> None:
    found = problem_of(suffix, content)
    assert found is None or (found and "\n" not in found)


ENDLESS = {
    "a name of many parts": ("slow.py", b"import a" + b".b" * 190_000 + b"\n"),
    "nested finally": (
        "slow.py",
        "".join(f"{' ' * depth}try: x\n{' ' * depth}finally:\n" for depth in range(19)).encode() + b" " * 19 + b"x\n",
    ),
    "a key of many parts": ("slow.toml", b"a" + b".a" * 190_000 + b" = 1\n"),
    "many brackets": ("slow.yaml", b"[" * 390_000),
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
async def test_a_file_that_takes_too_long_is_cut_off_and_stops_neither_the_loop_nor_what_is_known_of_others(
    endless: tuple[str, bytes],
) -> None:
    blobs = {"bad": ("bad.py", b"def f(:\n"), "slow": endless, "later": ("later.py", b"def g(:\n")}
    changed = survey(*(ChangedFile(name, blob, None) for blob, (name, _) in blobs.items()))
    contents = {blob: content for blob, (_, content) in blobs.items()}
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async with asyncio.timeout(60):
        first = await check_files(changed, contents, {})
    ticking.cancel()
    assert (first["bad"], first["slow"]) == ("line 1: invalid syntax", None)
    assert ticks > 10
    second = await check_files(changed, contents, first)  # nothing of the slow one: it is known that nothing is known
    assert second == first | {"later": "line 1: invalid syntax"}


async def test_checks_that_cannot_be_run_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert await syntax_problems({"bad": ("a.py", b"def f(:"), "text": ("a.txt", b"x")}) == {"text": None}
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert await syntax_problems({"bad": ("a.py", b"def f(:")}) == {}


def survey(*files: ChangedFile) -> Survey:
    return Survey(files, 1)


async def test_a_file_that_was_not_right_before_is_not_held_against_a_branch() -> None:
    changed = survey(ChangedFile("fixture.py", "new", "old"), ChangedFile("fresh.py", "fresh", None))
    found = await check_files(changed, {"new": b"print 'x'\n", "fresh": b"print 'z'\n"}, {})
    asked = suspects(changed, found, {})
    assert [file.name for file in asked] == ["fixture.py", "fresh.py"]
    found |= await excused(asked, found, {"old": b"print 'y'\n"}, ())
    assert [line.partition(":")[0] for line in told(changed, found)] == ["fresh.py"]
    assert suspects(changed, found, known=found) == []


async def test_conflict_markers_count_where_both_sides_are_there_and_the_branch_added_them() -> None:
    heading = b"Title\n=======\n"
    changed = survey(
        ChangedFile("a.c", "c", None), ChangedFile("b.rst", "r", None), ChangedFile("how-to-merge.md", "m", "m0")
    )
    found = await check_files(changed, {"c": CONFLICT, "r": heading, "m": CONFLICT}, {})
    assert found == {"c": MARKERS, "r": None, "m": MARKERS}
    assert await excused(suspects(changed, found, {}), found, {}, {"a.c"}) == {"m": None}


async def test_what_was_checked_before_is_not_read_again() -> None:
    changed = survey(
        ChangedFile("a.py", "one", "zero"), ChangedFile("b.py", "two", None), ChangedFile("gone.py", None, "x")
    )
    assert unread_blobs(changed, known={"one": "line 1: bad"}) == ["two"]
    found = await check_files(changed, {"two": b"x = 1\n"}, {"one": "line 1: bad"})
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
