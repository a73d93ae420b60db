from __future__ import annotations

import asyncio
import errno
import subprocess
import threading
import time
from pathlib import Path

import orjson
import pytest
import structlog
from valkey_server import ValkeyServer

from swarmq.fleet.presence import (
    FreeSpace,
    announce,
    clock_skew_seconds,
    describe_worker,
    forget_earlier,
    presence_file,
)
from swarmq.fleet.startup import warn_of_redis
from swarmq.settings import load_settings
from swarmq.store.store import Store


async def test_a_worker_is_there_while_it_announces_itself_and_gone_afterwards(store: Store, tmp_path: Path) -> None:
    settings = load_settings(runtime_dir=tmp_path, state_dir=tmp_path / "not" / "there", heartbeat_seconds=0.05)
    announcing = asyncio.create_task(announce(store, settings, lambda: describe_worker("w1", ["agents"], 0.0, 3, 0.0)))
    while not await store.workers.list():
        await asyncio.sleep(0)
    assert presence_file(settings, "w1").exists()
    (worker,) = await store.workers.list()
    assert (worker["name"], worker["running"], worker["clock_skew_seconds"]) == ("w1", 3, 0.0)
    assert worker["free_bytes"] > 0
    announcing.cancel()
    await asyncio.gather(announcing, return_exceptions=True)
    assert not presence_file(settings, "w1").exists()
    assert await store.workers.list() == []


def test_what_killed_workers_left_goes_with_the_next_start(tmp_path: Path) -> None:
    settings = load_settings(runtime_dir=tmp_path)
    gone = subprocess.Popen(["true"])
    gone.wait(20)
    own = describe_worker("own", ["agents"], 0.0, 3, 0.0)
    left = {"own": own, "gone": own | {"pid": gone.pid}, "elsewhere": own | {"pid": gone.pid, "host": "another"}}
    presence_file(settings, "x").parent.mkdir(parents=True)
    for name, about in left.items():
        presence_file(settings, name).write_bytes(orjson.dumps(about))
    presence_file(settings, "half").write_bytes(b"{")
    forget_earlier(settings)
    assert {path.stem for path in presence_file(settings, "x").parent.iterdir()} == {"own", "elsewhere", "half"}


async def test_a_disk_that_hangs_holds_up_no_word_of_a_worker_and_only_one_thread(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answers = 0, threading.Event()

    def hanging(_: Path) -> int:
        nonlocal begun
        begun += 1
        answers.wait(60)
        return 7_000

    monkeypatch.setattr("swarmq.fleet.presence._free_bytes", hanging)
    monkeypatch.setattr("swarmq.fleet.presence.MEASURE_SECONDS", 0.01)
    settings = load_settings(runtime_dir=tmp_path, probe_dir=tmp_path / "probes", heartbeat_seconds=0.2)
    announcing = asyncio.create_task(announce(store, settings, lambda: describe_worker("w1", ["agents"], 0.0, 3, 0.0)))

    async def told(free_bytes: int | None) -> None:
        while [worker.get("free_bytes") for worker in await store.workers.list()] != [free_bytes]:
            await asyncio.sleep(0)

    try:
        async with asyncio.timeout(20):
            for _ in range(3):
                while not (tmp_path / "probes" / "alive").exists():
                    await asyncio.sleep(0)
                (tmp_path / "probes" / "alive").unlink()
            await told(None)
            assert begun == 1
            answers.set()
            await told(7_000)
    finally:
        answers.set()
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)


async def test_a_full_disk_keeps_no_worker_from_being_there(store: Store, tmp_path: Path) -> None:
    settings = load_settings(runtime_dir=tmp_path, probe_dir=tmp_path / "probes", heartbeat_seconds=0.05)
    in_the_way = [presence_file(settings, "w1"), tmp_path / "probes"]
    in_the_way[0].mkdir(parents=True)
    in_the_way[1].touch()
    with structlog.testing.capture_logs() as logs:
        announcing = asyncio.create_task(
            announce(store, settings, lambda: describe_worker("w1", ["agents"], 0.0, 3, 0.0))
        )
        async with asyncio.timeout(20):
            while not await store.workers.list() and not announcing.done():
                await asyncio.sleep(0)
        assert not announcing.done(), announcing
    assert {entry["event"] for entry in logs} == {"presence file not written", "probe not written"}
    in_the_way[0].rmdir()
    in_the_way[0].parent.rmdir()  # as what cleans /tmp does
    in_the_way[1].unlink()
    async with asyncio.timeout(20):
        while not (presence_file(settings, "w1").is_file() and (tmp_path / "probes" / "alive").exists()):
            await asyncio.sleep(0)
    announcing.cancel()
    await asyncio.gather(announcing, return_exceptions=True)


async def test_a_disk_that_fails_is_not_told_of_and_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int | OSError] = [OSError(errno.ESTALE, "Stale file handle"), 5]

    def failing(_: Path) -> int:
        found = looks.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr("swarmq.fleet.presence._free_bytes", failing)
    space = FreeSpace(tmp_path)
    with structlog.testing.capture_logs() as logs:
        assert await space.look() is None
    assert "Stale file handle" in logs[0]["error"]
    assert await space.look() == 5


async def test_a_clock_that_is_wrong_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr("swarmq.fleet.presence.time.time", lambda: right() - 90)
    assert -91 < await clock_skew_seconds(store) < -89


async def test_settings_that_endanger_records_are_logged(own_valkey: ValkeyServer) -> None:
    with own_valkey.client() as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
    with structlog.testing.capture_logs() as logs:
        await warn_of_redis(own_valkey.url())
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("redis may lose records", "warning")
    assert "redis-cli CONFIG SET maxmemory-policy noeviction" in entry["remedy"]


async def test_a_worker_may_start_before_redis(own_valkey: ValkeyServer) -> None:
    own_valkey.kill()
    with structlog.testing.capture_logs() as logs:
        looking = asyncio.create_task(warn_of_redis(own_valkey.url(), again_seconds=0.01))
        async with asyncio.timeout(20):
            while not logs:
                await asyncio.sleep(0)
            await asyncio.to_thread(own_valkey.start)
            await looking
    assert {entry["event"] for entry in logs} == {"redis is not there yet"}
    assert own_valkey.password not in str(logs)
