"""A user's repository byte for byte: what a swarm must leave alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

Snapshot: TypeAlias = dict[str, tuple[int, int, bytes]]
"""Name below the repository -> mode, time of the last change (ns), content or target of a link."""
_OWN = (".git/objects/", *(f".git/{log}refs/{place}swarmq/" for log in ("", "logs/") for place in ("", "heads/")))
"""Where a swarm may write: objects, its result branch, and the refs that keep commits alive."""


def snapshot(repository: Path) -> Snapshot:
    """All files of a checkout and of its git directory: HEAD, refs, index, stash, reflogs, configuration, hooks, ..."""
    found: Snapshot = {}
    for root, directories, files in os.walk(repository):
        links = [name for name in directories if os.path.islink(os.path.join(root, name))]
        for path in [Path(root, name) for name in (*files, *links)]:
            name = str(path.relative_to(repository))
            if name.startswith(_OWN):
                continue
            status = path.lstat()
            content = os.fsencode(os.readlink(path)) if stat.S_ISLNK(status.st_mode) else path.read_bytes()
            found[name] = (status.st_mode, status.st_mtime_ns, content)
    return found


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    """Names of what differs, is new or is gone."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
