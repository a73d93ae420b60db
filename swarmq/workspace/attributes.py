"""How ``.gitattributes`` want things merged: a bare repository has no files, so git would not see it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath

from swarmq.workspace.git import GitAt
from swarmq.workspace.objects import read_blobs
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.worktrees import remove_tree

ATTRIBUTES = ".gitattributes"


@contextmanager
def with_attributes(clone: PrivateClone, git: GitAt, commit: str) -> Iterator[GitAt]:
    """``git`` with a work tree that holds the attribute files of a commit and nothing else.

    Also where there are none: with ``merge.renormalize`` git wants a work tree.
    """
    files = _attributes(clone, commit)
    place = clone.directory / f".merging-{secrets.token_hex(6)}"
    try:
        place.mkdir(mode=0o700)
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        yield replace(git, work_tree=place)
    finally:
        remove_tree(place)


def _attributes(clone: PrivateClone, commit: str) -> Mapping[str, bytes]:
    """The attribute files of a commit, by path. Looked up once."""
    known = clone.attributes.get(commit)
    if known is None:
        blobs: dict[str, str] = {}
        for entry in clone.git.run("ls-tree", "-r", "-z", "--full-tree", commit).names:
            if not entry.endswith(ATTRIBUTES):
                continue
            kind, _, name = entry.partition("\t")
            mode, _, blob = kind.split(" ")
            path = PurePosixPath(name)
            if path.name == ATTRIBUTES and mode.startswith("100") and ".." not in path.parts:
                blobs[name] = blob
        contents = read_blobs(clone.git, blobs.values())
        known = clone.attributes[commit] = {name: contents[blob] for name, blob in blobs.items() if blob in contents}
    return known


def carry_attributes(clone: PrivateClone, earlier: str, commit: str, changed: tuple[str, ...]) -> None:
    """Remember those of a new commit, where no attribute file is among what it changed."""
    if not any(name.endswith(ATTRIBUTES) for name in changed):
        clone.attributes[commit] = clone.attributes[earlier]
