from __future__ import annotations

import difflib
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from toolbench import Bench

from swarmq.agent.tools.unified import apply_hunks, parse
from swarmq.errors import ToolError

LINES = "".join(f"line {number}\n" for number in range(1, 21))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.file("a.txt", LINES)
    return bench


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_changes_creates_removes_and_renames(bench: Bench) -> None:
    bench.file("old.txt", "gone\n")
    bench.file("from.txt", "one\ntwo\n")
    patch = """\
diff --git a/a.txt b/a.txt
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@
 line 1
-line 2
+LINE 2
 line 3
@@ -18,3 +18,4 @@ section
 line 18
 line 19
 line 20
+line 21
diff --git a/new/b.sh b/new/b.sh
new file mode 100755
--- /dev/null
+++ b/new/b.sh
@@ -0,0 +1,2 @@
+#!/bin/sh
+echo hi
diff --git a/old.txt b/old.txt
deleted file mode 100644
--- a/old.txt
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/from.txt b/to.txt
similarity index 50%
rename from from.txt
rename to to.txt
--- a/from.txt
+++ b/to.txt
@@ -1,2 +1,2 @@
 one
-two
+2
"""
    assert await bench.ok("patch", patch=patch) == (
        "patched a.txt (+2 -1)\ncreated new/b.sh (+2)\nremoved old.txt (-1)\nrenamed from.txt to to.txt (+1 -1)"
    )
    assert bench.content("a.txt").decode() == LINES.replace("line 2\n", "LINE 2\n", 1) + "line 21\n"
    assert bench.content("new/b.sh") == b"#!/bin/sh\necho hi\n"
    assert (bench.root / "new/b.sh").stat().st_mode & stat.S_IXUSR
    assert bench.content("to.txt") == b"one\n2\n"
    assert sorted(path.name for path in bench.root.iterdir()) == ["a.txt", "new", "to.txt"]


async def test_what_git_prints_applies(bench: Bench) -> None:
    root = bench.root
    bench.file("empty.txt")
    bench.file("no-end.txt", "last line without end")
    bench.file("mode.sh", "echo\n")
    bench.file("moved.txt", LINES.upper())
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    bench.file("a.txt", LINES.replace("line 7\n", "").replace("line 15\n", "fifteen\nand a half\n"))
    bench.file("no-end.txt", "first\nlast line without end\nand now with\n")
    bench.file("fresh.txt")
    bench.file("dir with space/ünïcode.txt", "x\n")
    (root / "empty.txt").unlink()
    (root / "mode.sh").chmod(0o755)
    (root / "moved.txt").rename(root / "moved-away.txt")
    git(root, "add", "-A")
    after = git(root, "write-tree")
    patch = git(root, "-c", "core.quotePath=false", "diff", "--cached", "-M")
    git(root, "reset", "-q", "--hard")

    answer = await bench.ok("patch", patch=patch)

    git(root, "add", "-A")
    assert git(root, "write-tree") == after, answer
    assert "renamed moved.txt to moved-away.txt" in answer


async def test_format_patch_with_its_signature(bench: Bench) -> None:
    patch = (
        "From 1234 Mon Sep 17 00:00:00 2001\nSubject: [PATCH] x\n\n---\n a.txt | 2 +-\n\n"
        "diff --git a/a.txt b/a.txt\nindex 1..2 100644\n--- a/a.txt\n+++ b/a.txt\n"
        "@@ -19,2 +19,2 @@\n line 19\n-line 20\n+line 20.\n-- \n2.39.5\n\n"
    )
    await bench.ok("patch", patch=patch)
    assert bench.content("a.txt").decode().endswith("line 19\nline 20.\n")


async def test_miscounted_hunks_and_other_slips_of_models(bench: Bench) -> None:
    patch = "--- a.txt\n+++ a.txt\n@@ -5,99 +5,1 @@\n line 5\n-line 6\n+six\n\n"
    assert await bench.ok("patch", patch=patch) == "patched a.txt (+1 -1)"
    assert b"line 5\nsix\nline 7\n" in bench.content("a.txt")
    patch = "--- a/a.txt\r\n+++ b/a.txt\r\n@@ -5,2 +5,2 @@\r\n line 5\r\n-six\r\n+SIX"
    await bench.ok("patch", patch=patch)
    assert b"line 5\nSIX\nline 7\n" in bench.content("a.txt")


async def test_a_hunk_is_found_where_its_lines_are(bench: Bench) -> None:
    patch = "--- a/a.txt\n+++ b/a.txt\n@@ -2,2 +2,2 @@\n line 12\n-line 13\n+thirteen\n"
    assert await bench.ok("patch", patch=patch) == (
        "patched a.txt (+1 -1); found at other lines than named: hunk 1 by +10"
    )
    bench.file("twice.txt", "x\nsame\ny\nsame\n")
    answer = await bench.error("patch", patch="--- a/twice.txt\n+++ b/twice.txt\n@@ -1 +1 @@\n-same\n+other\n")
    assert "its lines are not at line 1 but at several places, 2, 4; name one" in answer


async def test_nothing_changes_unless_all_fits(bench: Bench) -> None:
    bench.file("b.txt", "b\n")
    patch = (
        "--- a/b.txt\n+++ b/b.txt\n@@ -1 +1 @@\n-b\n+B\n"
        "--- a/a.txt\n+++ b/a.txt\n@@ -3,2 +3,2 @@\n line 3\n-  line 4\n+four\n"
    )
    answer = await bench.error("patch", patch=patch)
    assert "a.txt: hunk 1 of 1 does not apply, its old lines are not in the file" in answer
    assert "differ only in white space:\n     3\tline 3\n     4\tline 4" in answer
    assert "nothing was changed" in answer
    assert bench.content("b.txt") == b"b\n"


async def test_crlf_files_keep_their_line_ends(bench: Bench) -> None:
    bench.file("dos.txt", b"one\r\ntwo\r\nthree\r\n")
    await bench.ok("patch", patch="--- a/dos.txt\n+++ b/dos.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n")
    assert bench.content("dos.txt") == b"one\r\n2\r\nthree\r\n"


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("", "at least 1 character"),
        ("hello", "the patch has no file"),
        ("*** Begin Patch\n*** Update File: a.txt\n", "the patch has no file"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ @@\n-line 1\n+x\n", "has no line numbers"),
        ("@@ -1 +1 @@\n-a\n+b\n", "cannot be parsed"),
        ("--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-a\n+b\n", "none.txt does not exist"),
        ("--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+b\n", "exists already"),
        ("--- a/a.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 1\n", "lines of it are not in the patch"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ -50,0 +51 @@\n+x\n", "there are 20 lines"),
        ("--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n", "leads out"),
        ("--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n", "belongs to git"),
        ("--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+x\n", "leads out"),
        ("--- /dev/null\n+++ /dev/null\n@@ -0,0 +1 @@\n+x\n", "names no file"),
        ('--- "a/\\303\\244"\n+++ "b/\\303\\244"\n@@ -1 +1 @@\n-a\n+b\n', "is quoted"),
        ("diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n", "symbolic link"),
        ("diff --git a/l b/l\nnew file mode 160000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+abc\n", "submodule"),
        ("diff --git a/i b/i\nBinary files a/i and b/i differ\n", "binary"),
        ("diff --git a/i b/i\nGIT binary patch\nliteral 5\n", "binary"),
        ("diff --git " + "a://b " * 10_000 + "\n", "outside its hunks"),
        ("--- a/a.txt\n+++ b/a.txt\n@@ -" + "9" * 5000 + " +1 @@\n-a\n+b\n", "has no line numbers"),
        ("x" * 1_100_000, "is the limit"),
    ],
)
async def test_refusals(bench: Bench, patch: str, reason: str) -> None:
    assert reason in await bench.error("patch", patch=patch)
    assert bench.content("a.txt").decode() == LINES
    assert sorted(path.name for path in bench.root.iterdir()) == ["a.txt"]


async def test_symbolic_links_are_neither_removed_nor_followed_out(bench: Bench) -> None:
    (bench.root / "link").symlink_to("a.txt")
    (bench.root / "out").symlink_to(bench.root.parent / "secret")
    (bench.root.parent / "secret").write_text("s\n")
    body = "".join(f"-{line}\n" for line in LINES.splitlines())
    remove = f"--- a/link\n+++ /dev/null\n@@ -1,20 +0,0 @@\n{body}"
    assert "link is a symbolic link" in await bench.error("patch", patch=remove)
    assert "leads out" in await bench.error("patch", patch="--- a/out\n+++ b/out\n@@ -1 +1 @@\n-s\n+t\n")


async def test_one_file_in_several_parts(bench: Bench) -> None:
    patch = (
        "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-line 1\n+one\n"
        "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-line 2\n+two\n"
    )
    await bench.ok("patch", patch=patch)
    assert bench.content("a.txt").startswith(b"one\ntwo\nline 3\n")


lines_of_text = st.lists(st.sampled_from(["a", "b", "c", "", "-- x", "++ y", "@@ z", " s"]), max_size=25)


@example(["-- a", "x"], ["++ b", "x"])
@example(["-- a", "++ b"], ["x"])
@example(["x", "-- "], ["1.2.3"])
@given(lines_of_text, lines_of_text)
def test_a_diff_of_two_texts_turns_one_into_the_other(before: list[str], after: list[str]) -> None:
    old, new = "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)
    diff = "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/f", "b/f", n=3))
    if not diff:
        return
    assert apply_hunks(old, parse(diff)[0]).text == new


@given(st.text(alphabet="-+ @\\abdifg/\n01,", max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        for file in parse(text):
            apply_hunks("a\nb\n", file)
    except ToolError:
        return
