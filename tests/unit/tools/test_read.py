from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from toolbench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_reads_with_line_numbers(bench: Bench) -> None:
    bench.file("src/a.py", "import os\n\nprint(os)\n")
    assert await bench.ok("read", file_path="src/a.py") == "     1\timport os\n     2\t\n     3\tprint(os)"
    assert await bench.ok("read", file_path=str(bench.root / "src/a.py"), offset=0, limit=1) == (
        "     1\timport os\n(lines 1-1 of 3; continue with offset=2)"
    )
    assert (
        await bench.ok("read", file_path="src/a.py", offset=3) == "     3\tprint(os)\n(lines 3-3 of 3; this is the end)"
    )


async def test_a_page_has_at_most_two_thousand_lines_or_fifty_thousand_characters(bench: Bench) -> None:
    bench.file("lines", "x\n" * 5000)
    text = await bench.ok("read", file_path="lines", limit=1_000_000)
    assert text.endswith("  2000\tx\n(lines 1-2000 of 5000; continue with offset=2001)")
    bench.file("wide", ("y" * 1000 + "\n") * 200)
    text = await bench.ok("read", file_path="wide")
    assert len(text) < 50_100
    assert "continue with offset=50)" in text


async def test_beyond_the_end(bench: Bench) -> None:
    bench.file("a", "one\n")
    assert await bench.error("read", file_path="a", offset=5) == "line 5 is beyond the end, there are 1 lines"
    bench.file("empty")
    assert await bench.ok("read", file_path="empty") == "(empty)"


async def test_a_missing_file_suggests_what_may_be_meant(bench: Bench) -> None:
    bench.file("src/parser.py")
    bench.file("src/lexer.py")
    assert await bench.error("read", file_path="src/parsr.py") == (
        "src/parsr.py does not exist; did you mean src/parser.py?"
    )
    assert "did you mean src/lexer.py?" in await bench.error("read", file_path="lexer.py")
    assert "did you mean src/lexer.py?" in await bench.error("read", file_path="project/src/lexer.py")
    assert await bench.error("read", file_path="qqq") == "qqq does not exist"
    assert "a part of the path is a file" in await bench.error("read", file_path="src/lexer.py/x")


async def test_a_directory_is_listed(bench: Bench) -> None:
    bench.file("src/b.py", "12345")
    bench.file("src/a.py")
    bench.file("src/deep/c.py")
    bench.file("src/.git/config")
    (bench.root / "src/link").symlink_to("a.py")
    expected = "src:\ndeep/\na.py (0 bytes)\nb.py (5 bytes)\nlink -> a.py"
    assert await bench.ok("read", file_path="src") == expected
    assert await bench.ok("list", path="src") == expected
    assert await bench.ok("list") == ".:\nsrc/"
    assert "is a file; use read" in await bench.error("list", path="src/a.py")
    assert "did you mean src?" in await bench.error("list", path="srcc")
    (bench.root / "nothing").mkdir()
    assert await bench.ok("list", path="nothing") == "nothing:\n(empty)"


async def test_a_large_directory_is_cut(bench: Bench) -> None:
    for number in range(1010):
        bench.file(f"many/{number:04}")
    text = await bench.ok("list", path="many")
    assert text.endswith("0999 (0 bytes)\n(10 more; glob finds files by name)")


async def test_what_is_no_text_is_refused(bench: Bench) -> None:
    bench.file("image.png", b"\x89PNG\r\n\x1a\n\x00\x00")
    assert await bench.error("read", file_path="image.png") == "image.png is a binary file; it is not shown"
    bench.file("wide.txt", "hello".encode("utf-16"))
    assert "UTF-16" in await bench.error("read", file_path="wide.txt")


async def test_what_waits_for_ever_is_refused(bench: Bench) -> None:
    os.mkfifo(bench.root / "pipe")
    assert await bench.error("read", file_path="pipe") == "pipe is neither a file nor a directory"


async def test_other_encodings_and_line_ends_are_said(bench: Bench) -> None:
    bench.file("latin1.txt", "caf\u00e9\n".encode("latin-1"))
    text = await bench.ok("read", file_path="latin1.txt")
    assert "caf\ufffd\n(not all of it is valid UTF-8" in text
    bench.file("dos.txt", "a\r\nb\r\n")
    assert await bench.ok("read", file_path="dos.txt") == (
        "     1\ta\n     2\tb\n(line ends are CRLF; edits keep them)"
    )


async def test_control_characters_are_shown_safely(bench: Bench) -> None:
    bench.file("a", "bell\x07 escape\x1b[2J\n")
    assert await bench.ok("read", file_path="a") == "     1\tbell\u2407 escape\u241b[2J"


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", ".git/config", "out/secret", "~/.ssh/id_rsa"])
async def test_nothing_outside_is_read(bench: Bench, path: str) -> None:
    (bench.root.parent / "outside").write_text("secret")
    (bench.root.parent / "secret").write_text("secret")
    bench.file(".git/config", "secret")
    (bench.root / "out").symlink_to("..")
    for tool, argument in (("read", "file_path"), ("list", "path")):
        answer = await bench.error(tool, **{argument: path})
        assert "leads out of" in answer or "belongs to git" in answer or "not expanded" in answer


async def test_a_huge_file_is_refused_with_the_reason(bench: Bench) -> None:
    with (bench.root / "huge").open("wb") as file:
        file.truncate(3 << 30)
    assert "read takes files of up to" in await bench.error("read", file_path="huge")


async def test_further_roots_can_be_read_and_not_written(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("text")
    bench = Bench(tmp_path, read_roots=(other,))
    assert "text" in await bench.ok("read", file_path=str(other / "a"))
    assert "a (4 bytes)" in await bench.ok("list", path=str(other))
    assert "text" in await bench.ok("grep", pattern="te.t", path=str(other))
    assert "leads out" in await bench.error("write", file_path=str(other / "b"), content="x")


async def test_outputs_by_name(bench: Bench) -> None:
    assert "there is no output://1" in await bench.error("read", file_path="output://1")
    for name in ("output://", "output://../secret", "output://1/../2", "output://٣"):
        assert "there is no output://" in await bench.error("read", file_path=name)
    bench.outputs.mkdir()
    (bench.outputs / "7.txt").write_text("x" * 5000 + "\nend\n")
    text = await bench.ok("read", file_path="output://7", offset=2)
    assert text.endswith("     3\t" + "x" * 1000 + "\n     4\tend\n(lines 2-4 of 4; this is the end)")


async def test_a_small_read_costs_little(bench: Bench) -> None:
    bench.file("src/a.py", "value = compute(1)  # a line of code\n" * 60)
    for _ in range(50):
        await bench.ok("read", file_path="src/a.py")
    before = time.process_time()
    for _ in range(200):
        await bench.ok("read", file_path="src/a.py")
    assert (time.process_time() - before) / 200 < 0.0005, "0.12 ms where this was written"


async def test_a_page_of_a_large_file_does_not_hold_the_loop(bench: Bench) -> None:
    with (bench.root / "large").open("wb") as file:
        for _ in range(50):
            file.write(b"a line of text of forty-nine characters, and end\n" * 20_400)
    reading = asyncio.create_task(bench.ok("read", file_path="large", offset=1_000_000, limit=2))
    ticks = 0
    while not reading.done():
        await asyncio.sleep(0)
        ticks += 1
    assert ticks > 10
    assert "(lines 1000000-1000001 of 1020000; continue with offset=1000002)" in reading.result()
