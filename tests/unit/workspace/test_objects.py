"""Many files' contents at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import git

from swarmq.workspace import objects
from swarmq.workspace.git import GitAt
from swarmq.workspace.objects import read_blobs

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


def test_large_files_are_left_out_and_do_not_hide_small_ones(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came in a small pack may be gigabytes: neither one file nor all together fill the memory."""
    contents = [b"".join([bytes([65 + number]) * size, b"\n"]) for number, size in enumerate((900, 400, 300, 20, 10))]
    blobs = {git(user, "hash-object", "-w", "--stdin", stdin=content): content for content in contents}
    git_at = GitAt(directory=user)
    assert read_blobs(git_at, blobs) == blobs
    monkeypatch.setattr(objects, "READ_BYTES", 500)
    assert sorted(read_blobs(git_at, blobs).values()) == sorted(contents[1:])
    monkeypatch.setattr(objects, "TOTAL_BYTES", 400)
    assert sorted(read_blobs(git_at, blobs).values()) == sorted(contents[2:])
