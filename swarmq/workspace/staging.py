"""Taking an agent's files into our own index of its worktree.

``git add -A`` is not used: it stops at a nested repository without a commit, records one with a commit as a submodule,
and runs ``git status`` inside of populated submodules, with whatever commands their configuration holds. Here git only
lists what differs, and only regular files and symbolic links are handed back to it. So nested repositories are left out
and, if they are not ignored, refused; what a submodule points to is never changed by a swarm: a finished commit that
would is refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import WorkspaceError
from swarmq.workspace.git import GitAt, shown
from swarmq.workspace.listing import list_files, refuse_pipes

MAX_FILE_BYTES = 100 * 1024 * 1024
"""Larger files are not taken into commits (no forge accepts them); 100 MB is GitHub's limit."""
_SUBMODULE = b"160000"
_SUBMODULES_FILE = ".gitmodules"
_SUBMODULES_BYTES = 1024 * 1024
_SUBMODULE_PATH = re.compile(rb'^\s*path\s*=\s*"?(.+?)"?\s*$', re.MULTILINE)
_IGNORED = re.compile(r"^Ignoring path (?P<name>.*)$", re.MULTILINE)
_REFUSED = re.compile(r"fatal: Unable to process path (?P<name>.*?)\s*\Z", re.DOTALL)
_UNENCODED = re.compile(
    r"fatal: (?:failed to encode|BOM is (?:required|prohibited) in) '(?P<name>.*?)' (?:from|if encoded as) ", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Staged:
    """``changed``: whether there was anything to do. ``refused``: why files that are there cannot be committed."""

    changed: bool
    refused: tuple[str, ...]


def changed_names(view: GitAt) -> list[str]:
    """Paths that differ from the index or are new and not ignored; a nested repository ends with a slash."""
    return list_files(view, "--modified", "--others", "--exclude-standard", "--deduplicate")


def stage(view: GitAt, *, strict: bool, left_out: Collection[str] = ()) -> Staged:
    """Bring the index up to date with the files, but for those to be left out.

    What cannot be committed is left out and told: unreadable, larger than 100 MB, a name that git refuses, not of the
    encoding that its attributes say, a nested repository, a submodule that is new or at another commit. What git fails
    at for other reasons is left out as well, or, if ``strict``, raises WorkspaceError. UncommittableError where git
    cannot even look.
    """
    root = _present(view)
    identity = os.lstat(root).st_ino
    names = [name for name in changed_names(view) if name not in left_out]
    taken, gone, refused = _sorted_out(view, root, names)
    _present(view, identity)  # a directory removed while git looked at it would read as "all files deleted"
    if gone:
        refused += _update_index(view, gone, "--force-remove", strict=strict)
    if taken:
        refuse_pipes(root, taken)
        refused += _update_index(view, taken, "--add", "--remove", "--replace", strict=strict)
    _present(view, identity)
    return Staged(bool(taken or gone), tuple(dict.fromkeys(refused)))


def _present(view: GitAt, identity: int | None = None) -> Path:
    """The worktree's directory. WorkspaceError if it is not there any more, or is another one."""
    root = view.work_tree
    if root is None:
        raise ValueError("a view has a work tree")
    try:
        found = os.lstat(root)
    except FileNotFoundError:
        found = None
    if found is None or not stat.S_ISDIR(found.st_mode) or identity not in (None, found.st_ino):
        raise WorkspaceError(f"the worktree {root} has been removed")
    return root


def _sorted_out(view: GitAt, root: Path, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """What to take (deleted files included), what to drop from the index, and why the rest is refused."""
    taken: list[str] = []
    gone: list[str] = []
    refused: list[str] = []
    directories: list[str] = []
    nested: list[str] = []
    for name in names:
        if name.endswith("/"):
            nested.append(name[:-1])
            continue
        try:
            found = os.lstat(root / name)
        except (FileNotFoundError, NotADirectoryError):
            (gone if beyond_link(root, name) else taken).append(name)
            continue
        except PermissionError:  # of a directory above it
            refused.append(f"{shown(name)} cannot be read")
            continue
        if beyond_link(root, name):
            gone.append(name)
        elif stat.S_ISDIR(found.st_mode):
            directories.append(name)
        elif stat.S_ISREG(found.st_mode) and found.st_size > MAX_FILE_BYTES:
            refused.append(f"{shown(name)} is larger than 100 MB ({found.st_size // 2**20:,} MB)")
        elif stat.S_ISREG(found.st_mode) and not os.access(root / name, os.R_OK):
            refused.append(f"{shown(name)} cannot be read")
        elif stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode):
            taken.append(name)
        else:
            refused.append(f"{shown(name)} is neither a file nor a link")
    if directories:  # a submodule, or a directory where a file was
        submodules = _submodules(view, directories)
        gone += [name for name in directories if name not in submodules]
        refused += [f"{shown(name)} is a submodule, and a swarm cannot move it" for name in sorted(submodules)]
    if nested:
        named = _named_submodules(root)
        refused += [_why_nested(shown(name), named=name in named) for name in nested]
    return taken, gone, refused


def _why_nested(name: str, *, named: bool) -> str:
    if named:
        return f"{name} is a new submodule, and a swarm cannot add one"
    return f"{name}/ is a git repository of its own: remove {name}/.git, or the directory"


def _named_submodules(root: Path) -> set[str]:
    """Where ``.gitmodules`` says that submodules are."""
    path = root / _SUBMODULES_FILE
    if path.is_symlink() or not path.is_file():
        return set()
    with path.open("rb") as file:
        return {os.fsdecode(found) for found in _SUBMODULE_PATH.findall(file.read(_SUBMODULES_BYTES))}


def beyond_link(root: Path, name: str) -> bool:
    """Whether one of the directories above is a symbolic link now: then the file is not in the worktree any more."""
    parent = os.path.dirname(name)
    while parent:
        if os.path.islink(root / parent):
            return True
        parent = os.path.dirname(parent)
    return False


def _submodules(view: GitAt, names: Sequence[str]) -> set[str]:
    literal = {"GIT_LITERAL_PATHSPECS": "1"}
    entries = view.run("ls-files", "--stage", "-z", "--", *names, variables=literal).names
    return {entry.partition("\t")[2] for entry in entries if os.fsencode(entry).startswith(_SUBMODULE)}


def _update_index(view: GitAt, names: Sequence[str], *options: str, strict: bool) -> list[str]:
    """Hand names to git; what it refuses, in words."""
    names, refused = list(names), []
    while names:
        feed = b"".join(os.fsencode(name) + b"\0" for name in names)
        result = view.run("update-index", *options, "-z", "--stdin", stdin=feed, accept=(0, 128))
        refused += [f"git refuses a file named {shown(name)!r}" for name in _IGNORED.findall(result.stderr)]
        if result.status == 0:
            break
        unencoded = _UNENCODED.search(result.stderr)
        found = unencoded or _REFUSED.search(result.stderr)
        if found is None or found["name"] not in names or (strict and unencoded is None):
            view.run("update-index", *options, "-z", "--stdin", stdin=feed)
            break
        if unencoded is not None:
            refused.append(f"{shown(found['name'])} is not of the encoding that .gitattributes says")
        names.remove(found["name"])
    return refused


def write_tree(view: GitAt) -> str:
    """The tree of the index."""
    return view.run("write-tree").text


def numstat(git: GitAt, old: str, new: str) -> tuple[tuple[str, ...], int, int]:
    """Files that differ between two commits or trees (both names of a renamed one), lines added, lines removed."""
    output = git.run("diff-tree", "-r", "-z", "--numstat", "--find-renames", "--no-ext-diff", old, new)
    fields = iter(output.stdout.decode("utf-8", "surrogateescape").split("\0"))
    files: list[str] = []
    insertions = deletions = 0
    for field in fields:
        if not field:
            continue
        added, removed, name = field.split("\t", 2)
        files += [name] if name else [next(fields), next(fields)]
        insertions += int(added) if added != "-" else 0  # "-" stands for a binary file
        deletions += int(removed) if removed != "-" else 0
    return tuple(shown(name) for name in files), insertions, deletions
