from __future__ import annotations

import io
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmq.agent.tools import pages
from swarmq.agent.tools.pages import LINE_CHARACTERS, Page, read_page


def page_of(path: Path, *, offset: int = 1, limit: int = 2000, characters: int = 50_000, wrap: bool = False) -> Page:
    with path.open("rb") as file:
        return read_page(file, offset=offset, limit=limit, characters=characters, wrap=wrap)


def written(directory: Path, content: bytes) -> Path:
    path = directory / "file"
    path.write_bytes(content)
    return path


def test_numbers_lines_from_one(tmp_path: Path) -> None:
    page = page_of(written(tmp_path, b"one\ntwo\n"))
    assert page.text == "     1\tone\n     2\ttwo"
    assert (page.first, page.last, page.more, page.total_lines) == (1, 2, False, 2)


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    path = written(tmp_path, b"one\ntwo")
    assert page_of(path).total_lines == 2
    assert page_of(path, offset=2).text == "     2\ttwo"
    beyond = page_of(path, offset=3)
    assert (beyond.text, beyond.total_lines, beyond.more) == ("", 2, False)


def test_pages_by_lines_and_by_characters(tmp_path: Path) -> None:
    path = written(tmp_path, b"".join(b"line %d\n" % number for number in range(1, 5001)))
    page = page_of(path, offset=100, limit=10)
    assert (page.first, page.last, page.more, page.total_lines) == (100, 109, True, 5000)
    page = page_of(path, characters=100)
    assert len(page.text) <= 100
    assert page.more


def test_long_lines_are_cut_and_say_so(tmp_path: Path) -> None:
    path = written(tmp_path, "é".encode() * 10_000 + b"\nnext\n")
    page = page_of(path)
    first, second = page.text.split("\n")
    assert first == f"     1\t{'é' * LINE_CHARACTERS}… [line cut, it has 20,001 bytes]"
    assert second == "     2\tnext"
    assert not page.invalid_utf8
    assert page.total_lines == 2


def test_wrapped_long_lines_lose_nothing(tmp_path: Path) -> None:
    text = "€" * 5_000 + "\nend\n"
    path = written(tmp_path, text.encode())
    page = page_of(path, wrap=True)
    assert "".join(line.partition("\t")[2] for line in page.text.split("\n")) == text.replace("\n", "")
    assert page.total_lines == page.last
    assert page_of(path, wrap=True, offset=3, limit=1).text == page.text.split("\n")[2]


def test_marks_and_line_ends(tmp_path: Path) -> None:
    page = page_of(written(tmp_path, b"\xef\xbb\xbfone\r\ntwo\r\n"))
    assert page.text == "     1\tone\n     2\ttwo"
    assert page.crlf
    page = page_of(written(tmp_path, b"caf\xe9\n"))
    assert page.text == "     1\tcaf\ufffd"
    assert page.invalid_utf8


def test_a_page_of_a_large_file_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        for start in range(0, 1_000_000, 10_000):
            file.write(b"".join(b"line %07d %s\n" % (number, b"x" * 36) for number in range(start, start + 10_000)))
    assert path.stat().st_size > 48_000_000
    tracemalloc.start()
    page = page_of(path, offset=900_000, limit=100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert page.text.startswith("900000\tline 0899999 ")
    assert page.total_lines == 1_000_000
    assert peak < 2_000_000


def test_one_endless_line_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(50_000_000)
        file.seek(0, io.SEEK_END)
        file.write(b"\nlast\n")
    tracemalloc.start()
    page = page_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert page.text.endswith("     2\tlast")
    assert peak < 2_000_000


def test_the_rest_of_a_huge_file_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LONGEST_READ_BYTES", 100)
    page = page_of(written(tmp_path, b"line\n" * 100), limit=2)
    assert (page.more, page.total_lines) == (True, None)


def test_a_page_of_very_long_lines_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LONGEST_READ_BYTES", 50_000)
    page = page_of(written(tmp_path, (b"x" * 40_000 + b"\n") * 5))
    assert (page.first, page.last, page.more) == (1, 2, True)


@given(
    st.lists(st.text(alphabet="aé€🎉 ", max_size=30), max_size=20),
    st.booleans(),
    st.integers(1, 25),
    st.integers(1, 25),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_page_is_those_lines(tmp_path: Path, lines: list[str], ended: bool, offset: int, limit: int) -> None:
    content = "\n".join(lines) + ("\n" if ended and lines else "")
    expected = content.split("\n")
    if expected[-1] == "":
        expected.pop()
    path = written(tmp_path, content.encode())
    page = page_of(path, offset=offset, limit=limit)
    shown = [re.sub(r"^ *\d+\t", "", line) for line in page.text.split("\n")] if page.last else []
    assert shown == expected[offset - 1 : offset - 1 + limit]
    assert page.more == (offset - 1 + limit < len(expected))
    if offset <= len(expected):
        assert page.total_lines == len(expected)


@given(st.lists(st.text(alphabet="aé€🎉\n", max_size=200), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_wrapped_pages_put_together_are_the_text(tmp_path: Path, texts: list[str]) -> None:
    content = "x".join(texts) * 40
    path = written(tmp_path, content.encode())
    offset, got = 1, ""
    while True:
        page = page_of(path, offset=offset, limit=7, wrap=True)
        got += "".join(line.partition("\t")[2] for line in page.text.split("\n"))
        if not page.more:
            break
        offset = page.last + 1
    assert got == content.replace("\n", "")
