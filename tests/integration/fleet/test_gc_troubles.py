"""Cleaning meets what others left, do, and refuse: it goes on with the rest, and is early with nothing."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest
from fleet_fakes import git, repository
from valkey_server import DATABASES, ValkeyServer

from swarmq.fleet import gc
from swarmq.fleet.gc import FOREIGN_SECONDS, ORPHAN_SECONDS, collect_garbage
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.swarm import SwarmResult, SwarmSpec, SwarmState
from swarmq.settings import Settings, load_settings
from swarmq.store import keys
from swarmq.store.cache import CachedResult
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.workspace.swarm_repository import SwarmRepository

SWARM = "0123456789"
HOUR_SECONDS = 3600


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", runtime_dir=tmp_path / "run")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


def orphaned(directory: Path) -> Path:
    """A directory whose record has not been found for long enough."""
    directory.mkdir(parents=True, exist_ok=True)
    mark = directory / "no-record-since"
    mark.touch()
    old = time.time() - ORPHAN_SECONDS - 60
    os.utime(mark, (old, old))
    return directory


def result(state: SwarmState = SwarmState.FAILED) -> SwarmResult:
    return SwarmResult(id=SWARM, state=state, report="")


async def ended(store: Store, settings: Settings, repo: Path, **options: float) -> SwarmRepository:
    """A swarm that has just ended, and its clone."""
    base = git(repo, "rev-parse", "HEAD")
    swarm = SwarmRepository(settings.state_dir, SWARM, repo, base)
    await swarm.prepare()
    spec = SwarmSpec(
        id=SWARM,
        task="mend",
        options=SwarmOptions(**options),
        created_at=time.time(),
        celery_task_id="t",
        repo=str(repo),
        base_commit=base,
    )
    await store.swarms.create(spec)
    await store.swarms.finish(SWARM, result())
    return swarm


async def test_what_a_killed_cleaning_left_goes_and_keeps_nothing_else(
    store: Store, settings: Settings, repo: Path
) -> None:
    base = git(repo, "rev-parse", "HEAD")
    await SwarmRepository(settings.state_dir, SWARM, repo, base).prepare()
    swarms = settings.state_dir / "swarms"
    left = orphaned((swarms / SWARM).rename(swarms / ".doomed-1f"))
    foreign = orphaned(swarms / ".snapshot")
    orphan = orphaned(swarms / "1111111111")
    cache = orphaned(settings.state_dir / "cache" / ".making-2f")
    os.utime(cache, (1, 1))
    said = [line.partition(":")[0] for line in await collect_garbage(store, settings, dry_run=True)]
    assert said == [str(left), str(orphan)]
    assert left.is_dir()
    await collect_garbage(store, settings)
    assert [path.exists() for path in (left, orphan, cache, foreign)] == [False, False, False, True]


async def test_a_directory_that_vanishes_meanwhile_is_another_cleanings(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarms = settings.state_dir / "swarms"
    orphan = orphaned(swarms / "1111111111")
    monkeypatch.setattr(gc, "_subdirectories", lambda _: [swarms / "0000000000", orphan])
    assert await collect_garbage(store, settings) == [f"{orphan}: no record of this swarm"]


async def test_a_broken_cache_keeps_no_other_from_being_cleaned(store: Store, settings: Settings, repo: Path) -> None:
    base = git(repo, "rev-parse", "HEAD")
    cache = settings.state_dir / "cache"
    swarm = SwarmRepository(settings.state_dir, SWARM, repo, base)
    worktree = await swarm.open_worktree("a", 1, base)
    (worktree.path / "b.txt").write_text("b\n")
    made = await swarm.commit(worktree, message="a", trailers={})
    assert made is not None
    await swarm.keep_result("k1", made.commit)
    (good,) = cache.iterdir()
    broken = cache / "0000.git"
    shutil.copytree(good, broken)
    (broken / "HEAD").write_text("nonsense")
    git(good, "update-ref", "-d", "refs/swarmq-cache/k1")
    await collect_garbage(store, settings)
    assert list(cache.iterdir()) == []


async def test_time_is_that_of_redis(
    store: Store, settings: Settings, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = await ended(store, settings, repo, keep_days=2.0)
    right = time.time
    monkeypatch.setattr("swarmq.fleet.gc.time.time", lambda: right() + 300 * 24 * HOUR_SECONDS)
    assert await collect_garbage(store, settings) == []
    await swarm.prepare()
    assert (settings.state_dir / "swarms" / SWARM).is_dir()


async def test_space_is_made_where_redis_takes_no_writes(settings: Settings, own_valkey: ValkeyServer) -> None:
    """As where its disk is full, which cleaning is to mend."""
    gate = Gate.open(own_valkey.url(), retry_seconds=5)
    store = Store(gate)
    await store.gate.call("ZADD", keys.ALL_SWARMS(), 1.0, "expired001")
    with own_valkey.client() as server:
        server.config_set("min-replicas-to-write", 1)
    orphan = orphaned(settings.state_dir / "swarms" / "1111111111")
    assert await collect_garbage(store, settings) == [f"{orphan}: no record of this swarm"]
    await gate.aclose()


async def test_a_full_disk_keeps_nothing_from_being_cleaned(
    store: Store, settings: Settings, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    swarm = await ended(store, settings, repo, keep_days=2.0)
    late = await store.now() + 3 * 24 * HOUR_SECONDS

    async def later() -> float:
        return late

    monkeypatch.setattr(store, "now", later)
    monkeypatch.setattr(Path, "write_text", full)
    assert len(await collect_garbage(store, settings)) == 1
    assert not (settings.state_dir / "swarms" / SWARM).exists(), swarm


async def test_what_another_redis_knows_is_left_to_it(
    store: Store, settings: Settings, repo: Path, valkey_server: ValkeyServer
) -> None:
    """The embedded stack and a Redis of one's own share the state directory, and one of them may be down for weeks."""
    await ended(store, settings, repo)
    directory = settings.state_dir / "swarms" / SWARM
    elsewhere = Gate.open(valkey_server.url(DATABASES - 1), retry_seconds=5)
    await elsewhere.call("FLUSHDB")
    other = Store(elsewhere)
    assert await other.name() == await other.name() != await store.name()
    await collect_garbage(store, settings)
    orphaned(directory)
    assert await collect_garbage(other, settings) == []
    await collect_garbage(store, settings)
    assert not (directory / "no-record-since").exists(), "it was found again"
    orphaned(directory)
    long_ago = time.time() - FOREIGN_SECONDS - 60
    os.utime(directory / "no-record-since", (long_ago, long_ago))
    assert await collect_garbage(other, settings) == [f"{directory}: no record of this swarm"]
    await elsewhere.aclose()


async def test_indexes_and_cache_do_not_grow_for_good(store: Store, settings: Settings, repo: Path) -> None:
    """What a list would never come to, and results that nobody asks for any more."""
    await ended(store, settings, repo)
    await store.gate.call("ZADD", keys.ALL_SWARMS(), 1.0, "expired001", 2.0, "expired002")
    await store.gate.call("SADD", keys.ACTIVE(), "expired003", "expired004")
    await store.swarms.create(
        SwarmSpec(id="active0001", task="x", options=SwarmOptions(), created_at=0.0, celery_task_id="a")
    )
    await store.cache.put("one", CachedResult(text="done", files=(), steps=1, usage=Usage(), source="s/b"))
    await store.gate.call("ZADD", keys.CACHE_AGES(), 1.0, "one")
    assert [status.id for status in await store.swarms.list(2)] == ["active0001", SWARM]
    await collect_garbage(store, settings)
    assert await store.gate.call("ZRANGE", keys.ALL_SWARMS(), 0, -1) == [SWARM.encode(), b"active0001"]
    assert await store.swarms.active() == ["active0001"]
    assert await store.gate.call("EXISTS", keys.CACHE(), keys.CACHE_AGES()) == 0
