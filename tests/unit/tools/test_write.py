from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from toolbench import Bench

from swarmq.agent.tools.text_file import Change, apply


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def leftovers(bench: Bench) -> list[Path]:
    return [path for path in bench.root.rglob("*") if path.name.startswith(".swarmq-")]


async def test_write_makes_files_and_directories(bench: Bench) -> None:
    assert await bench.ok("write", file_path="a/b/c.py", content="x = 1\ny = 2\n") == (
        "created a/b/c.py: 2 lines, 12 bytes"
    )
    assert bench.content("a/b/c.py") == b"x = 1\ny = 2\n"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((bench.root / "a/b/c.py").stat().st_mode) == 0o666 & ~umask
    assert leftovers(bench) == []


async def test_an_existing_file_is_replaced_only_after_it_was_read(bench: Bench) -> None:
    path = bench.file("a.sh", "old\n")
    path.chmod(0o755)
    assert await bench.error("write", file_path="a.sh", content="new\n") == (
        "a.sh exists and you have not read it; read it first, or use edit"
    )
    await bench.ok("read", file_path="a.sh")
    assert await bench.ok("write", file_path="a.sh", content="new\n") == "replaced a.sh: 1 line, 4 bytes"
    assert bench.content("a.sh") == b"new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert "replaced" in await bench.ok("write", file_path="a.sh", content="again\n")


async def test_an_empty_file_needs_no_read(bench: Bench) -> None:
    bench.file("__init__.py")
    assert "replaced" in await bench.ok("write", file_path="__init__.py", content="x = 1\n")


@pytest.mark.parametrize("tool", ["write", "edit", "multiedit", "patch"])
async def test_what_changed_since_the_last_read_is_not_touched(bench: Bench, tool: str) -> None:
    bench.file("a", "one\n")
    await bench.ok("read", file_path="a")
    bench.file("a", "one\ntwo\n")
    arguments: dict[str, dict[str, Any]] = {
        "write": {"file_path": "a", "content": "x"},
        "edit": {"file_path": "a", "old_string": "one", "new_string": "x"},
        "multiedit": {"file_path": "a", "edits": [{"old_string": "one", "new_string": "x"}]},
        "patch": {"patch": "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-one\n+x\n"},
    }
    assert "a has changed since you last read it; read it again first" in await bench.error(tool, **arguments[tool])
    assert bench.content("a") == b"one\ntwo\n"
    await bench.ok("read", file_path="a")
    await bench.ok(tool, **arguments[tool])


async def test_own_changes_are_not_strange_ones(bench: Bench) -> None:
    bench.file("a", "1\n")
    await bench.ok("read", file_path="a")
    for number in range(1, 5):
        await bench.ok("edit", file_path="a", old_string=str(number), new_string=str(number + 1))
    await bench.ok("write", file_path="a", content="done\n")
    assert bench.content("a") == b"done\n"


async def test_the_agents_own_shell_makes_a_file_stale_too(bench: Bench) -> None:
    bench.file("a", "one\n")
    await bench.ok("read", file_path="a")
    await bench.ok("bash", command="echo two >> a")
    assert "changed since" in await bench.error("write", file_path="a", content="x")


async def test_line_ends_and_marks_are_kept(bench: Bench) -> None:
    bench.file("dos", b"\xef\xbb\xbfone\r\ntwo\r\n")
    await bench.ok("read", file_path="dos")
    answer = await bench.ok("write", file_path="dos", content="three\nfour\n")
    assert bench.content("dos") == b"\xef\xbb\xbfthree\r\nfour\r\n"
    assert "CRLF line ends were kept" in answer
    await bench.ok("write", file_path="new", content="a\r\nb\n")
    assert bench.content("new") == b"a\r\nb\n"


async def test_refusals(bench: Bench) -> None:
    (bench.root / "dir").mkdir()
    bench.file("binary", b"\0\1")
    bench.file("plain", "x")
    assert "is a directory" in await bench.error("write", file_path="dir", content="x")
    assert "binary" in await bench.error("write", file_path="binary", content="x")
    assert "Not a directory" in await bench.error("write", file_path="plain/x", content="x")
    for path in ("../x", "/tmp/x", ".git/hooks/pre-commit", "sub/.git/config"):
        for tool in ("write", "edit"):
            answer = await bench.error(tool, file_path=path, **_content(tool))
            assert "leads out" in answer or "belongs to git" in answer
    assert not (bench.root.parent / "x").exists()


def _content(tool: str) -> dict[str, str]:
    return {"content": "x"} if tool == "write" else {"old_string": "", "new_string": "x"}


async def test_a_symlink_stays_and_its_target_is_written(bench: Bench) -> None:
    bench.file("real", "old")
    (bench.root / "link").symlink_to("real")
    (bench.root / "out").symlink_to(bench.root.parent / "outside")
    await bench.ok("edit", file_path="link", old_string="old", new_string="new")
    assert (bench.root / "link").is_symlink()
    assert bench.content("real") == b"new"
    assert "leads out" in await bench.error("write", file_path="out", content="x")
    assert not (bench.root.parent / "outside").exists()


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond this: the same path as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_write_that_fails_leaves_the_old_file(bench: Bench) -> None:
    bench.file("a", "old")
    await bench.ok("read", file_path="a")
    with files_of_at_most(1000):
        assert "File too large" in await bench.error("write", file_path="a", content="x" * 2000)
    assert bench.content("a") == b"old"
    assert leftovers(bench) == []


def test_several_changes_are_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.write_text("first")
    first.chmod(0o600)
    third.write_text("third")
    replace, renamed = os.replace, 0

    def fails_at_the_third(source: Path, target: Path) -> None:
        nonlocal renamed
        renamed += 1
        if renamed == 3:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("swarmq.agent.tools.text_file.os.replace", fails_at_the_third)
    with pytest.raises(OSError, match="No space"):
        apply([Change(first, b"1"), Change(second, b"2"), Change(third, b"3")])
    assert (first.read_text(), second.exists(), third.read_text()) == ("first", False, "third")
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "third"]


def test_removals_are_put_back_too(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.write_text("content")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        apply([Change(gone, None), Change(tmp_path / "directory", b"x")])
    assert gone.read_text() == "content"
