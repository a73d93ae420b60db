"""Cleaning never loses a commit, whether the swarm's record is still there or not."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from fleet_fakes import git, repository

from swarmq.fleet.gc import ORPHAN_SECONDS, collect_garbage
from swarmq.settings import load_settings
from swarmq.store.store import Store
from swarmq.workspace.swarm_repository import SwarmRepository

SWARM = "0123456789"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


async def test_an_orphans_work_is_saved_before_it_goes(store: Store, repo: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    base = git(repo, "rev-parse", "HEAD").strip()
    repository = SwarmRepository(state, SWARM, repo, base)
    worktree = await repository.open_worktree("alpha", 1, base)
    (worktree.path / "b.txt").write_text("b\n")
    made = await repository.commit(worktree, message="alpha", trailers={})
    assert made is not None
    directory = state / "swarms" / SWARM
    settings = load_settings(state_dir=state, runtime_dir=tmp_path / "run")

    old = time.time() - ORPHAN_SECONDS - 60
    os.utime(directory, (old, old))  # as of a swarm that has worked for days
    assert await collect_garbage(store, settings) == []
    assert directory.is_dir(), "it stays for now: its record may only be out of reach"

    os.utime(directory / "no-record-since", (old, old))
    assert [line.split(":")[0] for line in await collect_garbage(store, settings, dry_run=True)] == [str(directory)]
    assert directory.is_dir()
    away = shutil.move(repo, tmp_path / "away")
    assert await collect_garbage(store, settings) == []
    assert (directory / "repo.git").is_dir(), "the repository may come back"
    shutil.move(away, repo)
    await collect_garbage(store, settings)
    assert not directory.exists()
    assert git(repo, "rev-parse", f"refs/swarmq/{SWARM}/work/alpha").strip() == made.commit
    assert git(repo, "show", f"{made.commit}:b.txt") == "b"
    assert git(repo, "cat-file", "-s", f"{made.commit}:b.txt") == "2", "its line end, too"
