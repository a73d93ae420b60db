"""Files of every kind and name go into commits as they are, or are refused by name."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, finished, git, integrated, names_at, shell, write

from swarmq.errors import UncommittableError, WorkspaceError
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

NAMES = [
    *(b"-rf", b"--cached", b"a b", b" lead", b"trail ", b"new\nline", b'quo"te', b"tab\t", b"back\\slash"),
    *(b":(glob)*", b":!x", b"*.star", b"[x]", b"\xff\xfe.bin", "é.txt".encode(), "日本語/ф".encode(), b"$(id)", b"a;b"),
    *(b"#hash", b"!bang", b"~", b"@{0}", b"HEAD", b"x.lock", b"%s%d", b"a" * 255),
]


async def test_names_of_any_bytes(user: Path, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    for name in NAMES:
        write(worktree.path, {os.fsdecode(name): name})
    saved = await swarm.checkpoint(worktree, None)
    made = await swarm.commit(worktree, message="Names", trailers={})
    assert saved is not None
    assert made is not None
    assert len(made.files) == len(NAMES)
    assert "\\xff\\xfe.bin" in made.files
    assert "new\nline" in made.files
    for file in made.files:
        file.encode()  # fit for JSON
    merged = await integrated(swarm, made.commit, "Names")
    assert set(merged.files) == set(made.files)
    later = await swarm.open_worktree("b", 1, merged.commit or "")
    for name in NAMES:
        assert (later.path / os.fsdecode(name)).read_bytes() == name
        (later.path / os.fsdecode(name)).unlink()
    cleared = await swarm.commit(later, message="Clear", trailers={})
    assert cleared is not None
    assert set(cleared.files) == set(made.files)
    assert await swarm.publish() is not None


SHAPES = {
    "change": ("echo x > src/app.py", {"src/app.py"}),
    "delete": ("rm src/app.py", {"src/app.py"}),
    "delete a directory": ("rm -r src", {"src/app.py", "src/text.py"}),
    "rename": ("mv src/text.py words.py", {"src/text.py", "words.py"}),
    "mode": ("chmod +x src/app.py", {"src/app.py"}),
    "file to link": ("rm src/app.py; ln -s text.py src/app.py", {"src/app.py"}),
    "link out of the worktree": ("ln -s /etc/passwd out; ln -s / root", {"out", "root"}),
    "file to directory": (
        "rm README.md; mkdir README.md; echo 1 > README.md/one",
        {"README.md", "README.md/one"},
    ),
    "file to empty directory": ("rm README.md; mkdir README.md", {"README.md"}),
    "directory to file": ("rm -r src; echo 1 > src", {"src", "src/app.py", "src/text.py"}),
    "directory to link": (
        "mv src other; ln -s other src",
        {"src", "src/app.py", "src/text.py", "other/app.py", "other/text.py"},
    ),
    "directory to a link to nothing": ("rm -r src; ln -s none src", {"src", "src/app.py", "src/text.py"}),
    "directory to a link out": ("rm -r src; ln -s /usr src", {"src", "src/app.py", "src/text.py"}),
    "new in a new directory": ("mkdir -p a/b/c; echo 1 > a/b/c/d", {"a/b/c/d"}),
    "ignored": ("mkdir build __pycache__; echo 1 > build/x; echo 1 > x.log; echo 1 > __pycache__/a.pyc", set()),
    "ignored but staged": ("echo 1 > x.log; git add -f x.log", set()),
    "touched": ("touch -d '2001-01-01' src/app.py README.md", set()),
    "empty directory": ("mkdir empty", set()),
    "same content again": ("cp src/app.py x; rm src/app.py; mv x src/app.py", set()),
    "pipe": ("mkfifo pipe", set()),
    "case": ("mv README.md readme.md", {"README.md", "readme.md"}),
}


@pytest.mark.parametrize("name", list(SHAPES))
async def test_changes_of_every_shape(name: str, user: Path, base: str, swarm: SwarmRepository) -> None:
    """What is committed is what git itself would commit, and a worktree made from it has the same files."""
    script, expected = SHAPES[name]
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, script)
    assert set(await swarm.changed_files(worktree)) == expected
    saved = await swarm.checkpoint(worktree, None)
    made = await swarm.commit(worktree, message="Shape", trailers={})
    assert (saved is None, made is None) == (not expected, not expected)
    if made is None or saved is None:
        return
    assert set(made.files) == expected
    shell(user, script)
    git(user, "add", "-A")
    assert await swarm.tree_of(saved) == await swarm.tree_of(made.commit) == git(user, "write-tree")
    resumed = await swarm.open_worktree("a", 2, saved)
    assert await swarm.checkpoint(resumed, saved) is None
    compare = f"diff -r --no-dereference --exclude=.git . {resumed.path}"
    shell(worktree.path, f"rm -rf .git; find . -mindepth 1 -type d -empty -delete; {compare}")


async def test_edits_within_the_same_second_are_seen(base: str, swarm: SwarmRepository) -> None:
    """Same size, same second, same inode: git must not take the file for unchanged."""
    worktree = await swarm.open_worktree("a", 1, base)
    previous, trees = None, set()
    for number in range(5):
        write(worktree.path, {"README.md": f"A samp{number}e\n"})
        previous = await swarm.checkpoint(worktree, previous)
        assert previous is not None
        trees.add(await swarm.tree_of(previous))
    assert len(trees) == 5


async def test_names_that_differ_in_case_only_are_two_files(user: Path, tmp_path: Path) -> None:
    """The user's checkout may be on a file system that ignores case: its settings say nothing of ours."""
    base = add_commit(user, {"Foo.py": "foo\n", "a.txt": "a\n"}, "Files")
    for name in ("filemode", "symlinks"):
        git(user, "config", f"core.{name}", "false")
    git(user, "config", "core.ignorecase", "true")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, "git mv Foo.py foo.py; echo A > A.txt; chmod +x a.txt; ln -s a.txt link")
    made = await swarm.commit(worktree, message="x", trailers={})
    assert made is not None
    assert set(made.files) == {"Foo.py", "foo.py", "A.txt", "a.txt", "link"}
    listed = git(clone_of(swarm), "ls-tree", made.commit, "a.txt", "link").split("\n")
    assert [line[:6] for line in listed] == ["100755", "120000"]
    for setting in (clone_of(swarm) / "config", worktree.path / ".git" / "config"):
        assert git(user, "config", "--file", str(setting), "core.ignorecase") == "false"


async def test_line_ends_and_attributes(user: Path, tmp_path: Path, own_configuration: Path) -> None:
    git(user, "config", "core.autocrlf", "true")
    base = add_commit(user, {".gitattributes": "*.bat text eol=crlf\n*.bin binary\n", "run.bat": "a\nb\n"}, "Ends")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    worktree = await swarm.open_worktree("a", 1, base)
    assert (worktree.path / "README.md").read_bytes() == b"A sample\r\n"
    assert (worktree.path / "run.bat").read_bytes() == b"a\r\nb\r\n"
    assert await swarm.checkpoint(worktree, None) is None
    assert git(worktree.path, "status", "--porcelain") == ""
    write(worktree.path, {"mixed.txt": b"a\r\nb\nc\r\n", "x.bin": b"\r\n\0\n", "run.bat": b"c\n"})
    made = await swarm.commit(worktree, message="x", trailers={})
    assert made is not None
    where = clone_of(swarm)
    assert file_at(where, made.commit, "mixed.txt") == "a\nb\nc"
    assert "\r\n" in file_at(where, made.commit, "x.bin")
    assert file_at(where, made.commit, "run.bat") == "c"


async def test_filters_of_the_user_are_used(user: Path, base: str, tmp_path: Path, own_configuration: Path) -> None:
    """As git-lfs or git-crypt do it: what is stored is not what is in the files."""
    write(
        own_configuration.parent, {own_configuration.name: '[filter "swap"]\n\tclean = tr ab ba\n\tsmudge = tr ab ba\n'}
    )
    git(user, "config", "filter.local.clean", "tr xy yx")
    git(user, "config", "filter.local.smudge", "tr xy yx")
    base = add_commit(
        user, {".gitattributes": "*.s filter=swap\n*.l filter=local\n", "a.s": "ab\n", "a.l": "xy\n"}, "x"
    )
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    assert file_at(user, base, "a.s") == "ba"
    worktree = await swarm.open_worktree("a", 1, base)
    assert ((worktree.path / "a.s").read_text(), (worktree.path / "a.l").read_text()) == ("ab\n", "xy\n")
    assert await swarm.checkpoint(worktree, None) is None
    assert git(worktree.path, "status", "--porcelain") == ""
    write(worktree.path, {"b.s": "aab\n", "b.l": "xxy\n"})
    made = await swarm.commit(worktree, message="x", trailers={})
    assert made is not None
    assert file_at(clone_of(swarm), made.commit, "b.s") == "bba"
    assert file_at(clone_of(swarm), made.commit, "b.l") == "yyx"


async def test_a_file_of_50_mb(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"big.bin": random.Random(1).randbytes(50 * 2**20)})
    began = time.monotonic()
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert "big.bin" in names_at(clone_of(swarm), saved)
    assert time.monotonic() - began < 20


async def test_a_file_too_large_is_left_out_and_named(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"new.txt": "new\n", "core.dump": ""})
    os.truncate(worktree.path / "core.dump", 3 * 2**30)
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert "new.txt" in names_at(clone_of(swarm), saved)
    with pytest.raises(UncommittableError, match=r"core\.dump is larger than 100 MB \(3,072 MB\)"):
        await swarm.commit(worktree, message="x", trailers={})
    (worktree.path / "core.dump").unlink()
    assert await swarm.commit(worktree, message="x", trailers={}) is not None


@pytest.mark.parametrize("name", ["git~1", ".GIT/x", ".gitmodules-link"])
async def test_a_name_that_git_refuses(name: str, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"new.txt": "new\n"})
    if name == ".gitmodules-link":
        name = ".gitmodules"
        (worktree.path / name).symlink_to("README.md")
    else:
        write(worktree.path, {name: "x"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert "new.txt" in names_at(clone_of(swarm), saved)
    assert name not in names_at(clone_of(swarm), saved)
    with pytest.raises(UncommittableError, match="cannot be committed: git refuses a file named"):
        await swarm.commit(worktree, message="x", trailers={})


async def test_a_tracked_file_replaced_by_a_pipe_is_named(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, "rm README.md; mkfifo README.md")
    assert await swarm.checkpoint(worktree, None) is None
    with pytest.raises(UncommittableError, match=r"README\.md is neither a file nor a link"):
        await swarm.commit(worktree, message="x", trailers={})


async def test_a_file_that_is_not_of_its_encoding_is_named(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    attributes = "*.u working-tree-encoding=UTF-16\n*.v working-tree-encoding=UTF-8-none\n"
    write(worktree.path, {".gitattributes": attributes, "a.u": "no mark", "b.u": "\ufeffx".encode("utf-16-be")})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert {"a.u", "b.u"} & set(names_at(clone_of(swarm), saved)) == {"b.u"}
    assert await swarm.refused_files(worktree) == ("a.u is not of the encoding that .gitattributes says",)
    with pytest.raises(UncommittableError, match=r"cannot be committed: a\.u is not of the encoding"):
        await swarm.commit(worktree, message="x", trailers={})
    write(worktree.path, {"a.v": "x", "a.u": b""})
    assert await swarm.refused_files(worktree) == ("a.v is not of the encoding that .gitattributes says",)


async def test_an_unreadable_file_is_named(base: str, swarm: SwarmRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"secret": "x", "new.txt": "new"})
    allowed = os.access  # root, who may run this, reads everything
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path) and allowed(path, mode))
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert "new.txt" in names_at(clone_of(swarm), saved)
    assert "secret" not in names_at(clone_of(swarm), saved)
    with pytest.raises(UncommittableError, match="secret cannot be read"):
        await swarm.commit(worktree, message="x", trailers={})
    look = os.lstat

    def forbidden(path: str | Path) -> os.stat_result:
        if "src/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    write(worktree.path, {"src/more": "x"})
    monkeypatch.setattr(os, "lstat", forbidden)
    assert await swarm.refused_files(worktree) == ("secret cannot be read", "src/more cannot be read")


async def test_private_excludes_of_the_user_hold(user: Path, base: str, tmp_path: Path) -> None:
    write(user, {".git/info/exclude": "*.private\n"})
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"x.private": "1", "node_modules/m/index.js": "1", "y": "1"})
    assert await swarm.changed_files(worktree) == ("y",)
    assert git(worktree.path, "status", "--porcelain") == "?? y"


async def test_copy_ignored(user: Path, base: str, swarm: SwarmRepository) -> None:
    files: dict[str, str | bytes] = {
        ".env": "KEY=1\n",
        "build/a/b": "1",
        "build/c": "2",
        "d/x.log": "3",
        "new.txt": "4",
    }
    write(user, files)
    (user / "build" / "link").symlink_to("/etc/passwd")
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"build/c": "mine"})
    copied = await swarm.copy_ignored(worktree, [".env", "build", "**/*.log", "none*", "new.txt"])
    assert set(copied) == {".env", "build/a/b", "build/link", "d/x.log"}
    assert (worktree.path / ".env").read_text() == "KEY=1\n"
    assert (worktree.path / "build" / "c").read_text() == "mine"
    assert (worktree.path / "build" / "link").is_symlink()
    assert await swarm.changed_files(worktree) == ()
    write(user, {"cfg/x.log": "1"})
    (worktree.path / "cfg").symlink_to("/tmp")
    with pytest.raises(WorkspaceError, match="would leave the worktree through a link"):
        await swarm.copy_ignored(worktree, ["cfg/*"])


async def test_author_and_trailers(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"a": "1"})
    made = await swarm.commit(
        worktree, message="Title\n\nText <x>\0", trailers={"Swarmq-Swarm": SWARM}, author="Ann\n <Lee> <a@b.c>"
    )
    assert made is not None
    shown = git(clone_of(swarm), "log", "-1", "--format=%an|%ae|%cn|%s|%(trailers:only)", made.commit)
    assert shown.strip() == f"Ann|Leea@b.c|swarmq|Title|Swarmq-Swarm: {SWARM}"
    assert (made.files, made.insertions, made.deletions) == (("a",), 1, 0)
    other = await finished(swarm, "b", base, {"b": "1\n2\n"})
    assert git(clone_of(swarm), "log", "-1", "--format=%an <%ae>", other) == "swarmq <swarmq@localhost>"
