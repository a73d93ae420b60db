from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbench import Bench

from swarmq.agent.tools.edits import replace
from swarmq.agent.tools.text_file import EDIT_MAX_BYTES, decode
from swarmq.errors import ToolError

CODE = """\
def first():
    value = compute(1)
    return value


def second():
    value = compute(2)
    return value
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.file("a.py", CODE)
    return bench


async def test_replaces_what_occurs_once_and_shows_the_place(bench: Bench) -> None:
    answer = await bench.ok("edit", file_path="a.py", old_string="compute(2)", new_string="compute(\n        20\n    )")
    assert bench.content("a.py").decode() == CODE.replace("compute(2)", "compute(\n        20\n    )")
    assert answer.startswith("edited a.py: 1 replacement; it now reads\n")
    assert "     7\t    value = compute(\n     8\t        20\n     9\t    )" in answer


async def test_needs_no_read_before(bench: Bench) -> None:
    await bench.ok("edit", file_path="a.py", old_string="first", new_string="one")


async def test_several_matches_are_refused_with_their_lines(bench: Bench) -> None:
    answer = await bench.error("edit", file_path="a.py", old_string="return value", new_string="return 1")
    assert "a.py: old_string occurs 2 times, at lines 3, 8;" in answer
    assert bench.content("a.py").decode() == CODE
    answer = await bench.ok(
        "edit", file_path="a.py", old_string="return value", new_string="return 1", replace_all=True
    )
    assert "2 replacements" in answer
    assert bench.content("a.py").decode() == CODE.replace("return value", "return 1")


async def test_a_miss_shows_lines_that_differ_in_space(bench: Bench) -> None:
    answer = await bench.error(
        "edit", file_path="a.py", old_string="def second():\n  value = compute(2)\n", new_string="x"
    )
    assert "old_string was not found\nthese lines differ only in white space:\n" in answer
    assert "     6\tdef second():\n     7\t    value = compute(2)" in answer
    assert "     8" not in answer


async def test_a_miss_shows_the_nearest_lines(bench: Bench) -> None:
    answer = await bench.error("edit", file_path="a.py", old_string="value = compute(3)", new_string="x")
    assert "the nearest lines are:\n     2\t    value = compute(1)" in answer
    answer = await bench.error("edit", file_path="a.py", old_string="nothing like that", new_string="x")
    assert "no line of the file is like it" in answer


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [("", "x", "write replaces a whole file"), ("first", "first", "nothing would change")],
)
async def test_edits_without_sense(bench: Bench, old: str, new: str, reason: str) -> None:
    assert reason in await bench.error("edit", file_path="a.py", old_string=old, new_string=new)


async def test_an_edit_of_nothing_makes_a_file(bench: Bench) -> None:
    assert "created new/b.py: 1 line" in await bench.ok(
        "edit", file_path="new/b.py", old_string="", new_string="x = 1\n"
    )
    assert bench.content("new/b.py") == b"x = 1\n"
    answer = await bench.error("edit", file_path="b.py", old_string="x", new_string="y")
    assert answer == "b.py does not exist; did you mean a.py or new/b.py?"


async def test_crlf_is_kept(bench: Bench) -> None:
    bench.file("dos", b"one\r\ntwo\r\nthree\r\n")
    await bench.ok("edit", file_path="dos", old_string="one\ntwo", new_string="1\n2\n2b")
    await bench.ok("edit", file_path="dos", old_string="three\r\n", new_string="3\r\n")
    assert bench.content("dos") == b"1\r\n2\r\n2b\r\n3\r\n"


async def test_mixed_line_ends_stay_mixed(bench: Bench) -> None:
    bench.file("mixed", b"one\ntwo\r\nthree\r\nfour\n")
    await bench.ok("edit", file_path="mixed", old_string="two\nthree", new_string="2\n3")
    await bench.ok("edit", file_path="mixed", old_string="one\n", new_string="1\n")
    assert bench.content("mixed") == b"1\n2\r\n3\r\nfour\n"


async def test_bytes_that_are_no_utf8_survive(bench: Bench) -> None:
    bench.file("latin1", "caf\u00e9 = 1\nother = 2\n".encode("latin-1"))
    await bench.ok("edit", file_path="latin1", old_string="other = 2", new_string="\u00fcber = 3")
    assert bench.content("latin1") == b"caf\xe9 = 1\n\xc3\xbcber = 3\n"


async def test_a_large_file_is_refused_with_the_reason(bench: Bench) -> None:
    with (bench.root / "large").open("wb") as file:
        file.truncate(50_000_000)
    answer = await bench.error("edit", file_path="large", old_string="a", new_string="b")
    assert f"large has 50,000,000 bytes; files of up to {EDIT_MAX_BYTES:,} bytes can be edited" in answer


async def test_multiedit_builds_each_edit_on_the_one_before(bench: Bench) -> None:
    answer = await bench.ok(
        "multiedit",
        file_path="a.py",
        edits=[
            {"old_string": "first", "new_string": "uno"},
            {"old_string": "uno", "new_string": "one"},
            {"old_string": "value", "new_string": "result", "replace_all": True},
        ],
    )
    assert bench.content("a.py").decode() == CODE.replace("first", "one").replace("value", "result")
    assert "edited a.py: 6 replacements" in answer


async def test_multiedit_makes_all_or_none(bench: Bench) -> None:
    answer = await bench.error(
        "multiedit",
        file_path="a.py",
        edits=[{"old_string": "first", "new_string": "one"}, {"old_string": "missing", "new_string": "x"}],
    )
    assert "a.py: edit 2 of 2, so none was made: old_string was not found" in answer
    assert bench.content("a.py").decode() == CODE
    result = await bench.call("multiedit", file_path="a.py", edits=[{"old_string": "first"}])
    assert "edits.0.new_string is missing" in result.content
    assert "edits: list should have at least 1 item" in await bench.error("multiedit", file_path="a.py", edits=[])


@given(st.text(max_size=50), st.text(min_size=1, max_size=4), st.text(max_size=4), st.booleans())
def test_replace_is_exact(text: str, old: str, new: str, everywhere: bool) -> None:
    count = text.count(old)
    try:
        edited = replace(text, old, new, everywhere=everywhere)
    except ToolError:
        assert old == new or count == 0 or (count > 1 and not everywhere)
        return
    assert edited.text == text.replace(old, new)
    assert edited.replacements == count
    assert edited.line == text[: text.index(old)].count("\n") + 1


@given(st.binary(max_size=200))
def test_decoding_and_encoding_gives_the_same_bytes(raw: bytes) -> None:
    file = decode(raw, None)
    assert file.encode(file.text) == raw
