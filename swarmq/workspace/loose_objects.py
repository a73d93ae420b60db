"""Commits of ours as loose objects: what ``git commit-tree`` writes, without a process of git for each checkpoint."""

from __future__ import annotations

import hashlib
import secrets
import zlib
from pathlib import Path

from swarmq.workspace.commit_object import CommitObject

_SHA1_DIGITS = 40
_UNCOMPRESSED = 0
"""As in the clone's configuration: such an object is small, and lives for hours."""


def store_commit(objects: Path, commit: CommitObject) -> str:
    """Write it to an object directory; its id. Its tree and parents, which are there, say which hash is used."""
    raw = commit.raw()
    content = b"commit %d\0" % len(raw) + raw
    new = hashlib.sha1 if len(commit.tree) == _SHA1_DIGITS else hashlib.sha256
    name = new(content, usedforsecurity=False).hexdigest()
    directory = objects / name[:2]
    place = directory / name[2:]
    if not place.exists():
        directory.mkdir(exist_ok=True)
        making = directory / f"tmp_obj_{secrets.token_hex(6)}"  # git removes such a file if we die here
        making.write_bytes(zlib.compress(content, _UNCOMPRESSED))
        making.chmod(0o444)
        making.rename(place)
    return name
