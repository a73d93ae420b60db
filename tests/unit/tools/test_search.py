from __future__ import annotations

import ast
import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbench import Bench

from swarmq.agent.tools import scan
from swarmq.models.plan import Kind

RIPGREP = shutil.which("rg") or os.environ.get("SWARMQ_TEST_RIPGREP")
"""Tests that compare the two engines want the real one; a path may be given where it is not installed."""


@pytest.fixture(params=["own", "ripgrep"])
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "ripgrep":
        if RIPGREP is None:
            pytest.skip("ripgrep is not installed")
        monkeypatch.setenv("PATH", f"{Path(RIPGREP).parent}{os.pathsep}{os.environ['PATH']}")
    else:
        monkeypatch.setattr("swarmq.agent.tools.search.shutil.which", lambda *_, **__: None)
    bench = Bench(tmp_path, Kind.READ)
    bench.file(".git/HEAD", "needle in git\n")
    bench.file("src/app.py", "import os\nneedle = 1\n\n\ndef use():\n    return needle\n")
    bench.file("src/deep/util.py", "NEEDLE = 2\n")
    bench.file("README.md", "A needle in the docs.\n")
    bench.file(".github/ci.yml", "run: needle\n")
    bench.file("image.bin", b"needle\0\1\2")
    bench.file(".gitignore", "build/\n*.log\n!keep.log\n")
    bench.file("build/out.py", "needle\n")
    bench.file("debug.log", "needle\n")
    bench.file("keep.log", "needle\n")
    bench.file("src/.gitignore", "generated_*\n/local.py\n")
    bench.file("src/generated_x.py", "needle\n")
    bench.file("src/local.py", "needle\n")
    bench.file("src/deep/local.py", "needle\n")
    return bench


async def test_matches_with_file_and_line(bench: Bench) -> None:
    assert await bench.ok("grep", pattern="needle") == (
        ".github/ci.yml:1:run: needle\n"
        "README.md:1:A needle in the docs.\n"
        "keep.log:1:needle\n"
        "src/app.py:2:needle = 1\n"
        "src/app.py:6:    return needle\n"
        "src/deep/local.py:1:needle"
    )


async def test_below_a_directory_in_a_file_and_by_glob(bench: Bench) -> None:
    assert (
        await bench.ok("grep", pattern="^needle", path="src") == "src/app.py:2:needle = 1\nsrc/deep/local.py:1:needle"
    )
    assert await bench.ok("grep", pattern="def|import", path="src/app.py") == (
        "src/app.py:1:import os\nsrc/app.py:5:def use():"
    )
    assert await bench.ok("grep", pattern="needle", glob="*.md") == "README.md:1:A needle in the docs."
    assert await bench.ok("grep", pattern="needle", glob="*.{md,yml}", output_mode="files_with_matches") == (
        ".github/ci.yml\nREADME.md"
    )
    assert "app.py" not in await bench.ok("grep", pattern="needle", glob="!*.py")


async def test_what_is_ignored_can_be_asked_for_by_name(bench: Bench) -> None:
    assert await bench.ok("grep", pattern="needle", path="build") == "build/out.py:1:needle"
    assert await bench.ok("grep", pattern="needle", path="debug.log") == "debug.log:1:needle"


async def test_counts_files_case_and_context(bench: Bench) -> None:
    assert await bench.ok("grep", pattern="needle", path="src", output_mode="count", ignore_case=True) == (
        "src/app.py:2\nsrc/deep/local.py:1\nsrc/deep/util.py:1"
    )
    assert await bench.ok("grep", pattern="needle", path="src/app.py", context=1) == (
        "src/app.py-1-import os\nsrc/app.py:2:needle = 1\nsrc/app.py-3-\n--\n"
        "src/app.py-5-def use():\nsrc/app.py:6:    return needle"
    )
    assert (await bench.ok("grep", pattern="needle", path="src/app.py", context=9)).count("\n") == 5


async def test_no_match_and_bad_patterns(bench: Bench) -> None:
    assert await bench.ok("grep", pattern="absent") == "(no match)"
    assert "not a valid pattern: " in await bench.error("grep", pattern="(needle")
    assert "srcc does not exist; did you mean src?" in await bench.error("grep", pattern="x", path="srcc")
    assert "leads out" in await bench.error("grep", pattern="x", path="..")
    assert "belongs to git" in await bench.error("grep", pattern="x", path=".git")
    assert "output_mode" in await bench.error("grep", pattern="x", output_mode="lines")


async def test_patterns_that_begin_with_a_dash_are_patterns(bench: Bench) -> None:
    bench.file("-dash", "--version\n")
    assert await bench.ok("grep", pattern="--version") == "-dash:1:--version"
    assert await bench.ok("grep", pattern="--version", path="-dash") == "-dash:1:--version"


async def test_a_pattern_that_only_python_knows(bench: Bench) -> None:
    assert await bench.ok("grep", pattern="needle(?= = 1)") == "src/app.py:2:needle = 1"


async def test_long_lines_and_many_matches_are_bounded(bench: Bench) -> None:
    bench.file("min.js", "x" * 20_000 + " target " + "y" * 20_000 + "\n")
    assert len(await bench.ok("grep", pattern="target")) < 1000
    bench.file("many.txt", "match me\n" * 5000)
    text = await bench.ok("grep", pattern="match me")
    assert "stopped after 2,000 matches, there may be more: narrow pattern, path or glob" in text
    assert "many.txt:1:match me" in text
    assert "characters left out; the whole: read output://1" in text
    assert len(text) < 31_000
    assert "many.txt:2000:match me" in await bench.ok("read", file_path="output://1", offset=1990)


async def test_a_saved_output_can_be_searched(bench: Bench) -> None:
    bench.outputs.mkdir()
    (bench.outputs / "3.txt").write_text("one\ntwo needle\n")
    assert await bench.ok("grep", pattern="needle", path="output://3") == "output://3:2:two needle"


async def test_links_do_not_lead_out(bench: Bench) -> None:
    outside = bench.root.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("needle outside\n")
    (bench.root / "out").symlink_to(outside)
    (bench.root / "file-out").symlink_to(outside / "a.txt")
    assert "outside" not in await bench.ok("grep", pattern="needle")
    assert "outside" not in await bench.ok("glob", pattern="**/*")


async def test_names_that_are_no_text(bench: Bench) -> None:
    raw = os.fsencode(bench.root) + b"/na\xffme\n.txt"
    with open(raw, "w") as file:  # noqa: ASYNC230 - the name cannot be a Path
        file.write("needle!\n")
    assert ":1:needle!" in await bench.ok("grep", pattern="needle!")
    assert "na" in await bench.ok("glob", pattern="na*")


async def test_glob_finds_the_newest_first(bench: Bench) -> None:
    os.utime(bench.root / "src/app.py", (2_000_000_000, 2_000_000_000))
    os.utime(bench.root / "src/deep/util.py", (1_000_000_000, 1_000_000_000))
    found = (await bench.ok("glob", pattern="**/*.py")).split("\n")
    assert found == ["src/app.py", "src/deep/local.py", "src/deep/util.py"]
    assert await bench.ok("glob", pattern="*.md") == "README.md"
    assert await bench.ok("glob", pattern="src/*.py") == "src/app.py"
    assert await bench.ok("glob", pattern="*.py", path="src/deep") == "src/deep/local.py\nsrc/deep/util.py"
    assert await bench.ok("glob", pattern=f"{bench.root}/src/a*.{{py,pyi}}") == "src/app.py"
    assert await bench.ok("glob", pattern="*.rs") == "(no file matches *.rs)"
    for pattern in ("../*", "/etc/*", "src/../../*"):
        assert "leads out of the directory" in await bench.error("glob", pattern=pattern)


async def test_glob_is_bounded(bench: Bench) -> None:
    for number in range(1010):
        bench.file(f"many/{number:04}.txt")
    text = await bench.ok("glob", pattern="many/*.txt")
    assert text.endswith("\n(10 older ones not shown; narrow the pattern)")


async def test_a_pattern_that_never_ends_does_not_hang(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.agent.tools.search.SEARCH_SECONDS", 0.2)
    monkeypatch.setattr("swarmq.agent.tools.engines._SPARE_SECONDS", 0.1)
    bench.file("evil.txt", "a" * 50 + "!\n")
    started, ticks = time.monotonic(), 0
    searching = asyncio.create_task(bench.call("grep", pattern="(?=x|a)(a+)+$", path="evil.txt"))
    while not searching.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert time.monotonic() - started < 10
    assert ticks > 10, "the loop stood still while the pattern was tried"
    assert searching.result().content.startswith("(no match; stopped after 0.2 s, there may be more")


async def test_globs_of_strangers_do_not_hang_either(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.agent.tools.search.SEARCH_SECONDS", 0.3)
    monkeypatch.setattr("swarmq.agent.tools.engines._SPARE_SECONDS", 0.1)
    bench.file("/".join("a" * 60) + "/b", "x")
    started = time.monotonic()
    await bench.call("glob", pattern="**/a/" * 30 + "c")
    bench.file(".gitignore", "a*" * 60 + "b\n")
    bench.file("a" * 200, "x")
    await bench.call("glob", pattern="*")
    assert time.monotonic() - started < 10


async def test_large_files_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.agent.tools.search.shutil.which", lambda *_, **__: None)
    bench = Bench(tmp_path)
    with (bench.root / "large").open("wb") as file:
        file.truncate(scan.MAX_FILE_BYTES + 1)
    assert await bench.ok("grep", pattern="x") == "(no match)\n(1 files above 64,000,000 bytes were not searched)"


def test_the_program_needs_nothing_of_the_package() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(Path(scan.__file__).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported - set(sys.stdlib_module_names) == {"pathspec"}


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "a.py/b"]),
        ("/*.py", ["a.py"], ["x/a.py"]),
        ("./*.py", ["a.py"], ["x/a.py"]),
        ("src/**", ["src/a", "src/x/a"], ["srcs/a", "a"]),
        ("src/**/*.ts", ["src/a.ts", "src/x/y/a.ts"], ["a.ts", "src/a.js"]),
        ("**/test_*.py", ["test_a.py", "x/test_a.py"], ["x/atest_a.py"]),
        ("a?c", ["abc"], ["a/c", "ac", "abbc"]),
        ("[ab].txt", ["a.txt", "x/b.txt"], ["c.txt"]),
        ("[!a].txt", ["b.txt"], ["a.txt"]),
        ("*.{js,t{s,sx}}", ["a.js", "a.ts", "a.tsx"], ["a.t", "a.css"]),
        ("{src,lib}/*.c", ["src/a.c", "lib/a.c"], ["etc/a.c", "a.c"]),
        ("a{b", ["a{b"], ["ab"]),
        ("**", ["a", "a/b"], []),
    ],
)
def test_globs(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = scan.glob_matcher(pattern)
    assert [path for path in [*matching, *others] if matches(path)] == matching


@given(st.text(alphabet="{},ab", max_size=40))
def test_braces_are_expanded_within_bounds(pattern: str) -> None:
    assert 1 <= len(scan.braces(pattern)) <= 64


def test_the_same_files_are_ignored_as_git_ignores(tmp_path: Path) -> None:
    ignores = {
        ".gitignore": "*.o\n/top\nlogs/\n!important.o\ndoc/*.txt\nfoo/**/bar\n\\#x\n# comment\n*.tmp\n",
        "sub/.gitignore": "!*.o\nsecret*\n/only-here\n",
        "sub/deep/.gitignore": "*\n!.gitignore\n!kept\n",
    }
    names = ["a.o", "important.o", "top", "logs/x", "doc/a.txt", "doc/x/a.txt", "foo/bar", "foo/a/b/bar", "#x", "x.tmp"]
    for name in [*names, *(f"sub/{name}" for name in names), "sub/secret1", "sub/only-here", "sub/x/only-here"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("sub/deep/kept", "sub/deep/lost", "sub/deep/er/kept"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name, content in ignores.items():
        (tmp_path / name).write_text(content)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.check_output([*git, "ls-files", "-coz", "--exclude-standard"], text=True)
    request = scan.Request("glob", str(tmp_path), ".", "**")
    found = {os.path.relpath(path, tmp_path) for path in scan.wanted(request)}
    assert found == set(listed.split("\0")) - {""}
