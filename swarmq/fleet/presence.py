"""Workers tell that they are there: a record in Redis for ``swarmq workers``, a file for liveness probes.

The file must not depend on Redis: an outage of Redis is no reason to restart workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil
import structlog

from swarmq.errors import StoreError
from swarmq.fleet.liveness import Probes
from swarmq.settings import Settings
from swarmq.store.store import Store

log = structlog.get_logger()
WITHDRAW_SECONDS = MEASURE_SECONDS = 1.0
RECORD_HEARTBEATS = 3
"""For how many heartbeats a worker's word counts, and how many it waits for Redis before it tells its file again."""

own_version = cache(version)
"""Finding it reads the package's files, 4 ms: too much for each heartbeat."""


def describe_worker(
    name: str, queues: list[str], started_at: float, running: int, stall_seconds: float
) -> dict[str, Any]:
    """What a worker says of itself. ``rss_bytes`` is the peak of the process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "queues": queues,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": own_version("swarmq"),
        "started_at": started_at,
        "at": time.time(),
        "running": running,
        "longest_stall_ms": round(stall_seconds * 1000),
        "rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }


def presence_file(settings: Settings, name: str) -> Path:
    return settings.runtime_dir / "workers" / f"{name}.json"


def forget_earlier(settings: Settings) -> None:
    """Remove the files of killed workers: all in a pod, whose containers follow one another, else of gone processes."""
    for path in presence_file(settings, "*").parent.glob("*.json"):
        if settings.pod() is not None or _is_of_the_dead(path):
            path.unlink(missing_ok=True)


def _is_of_the_dead(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        about = orjson.loads(path.read_bytes())
        return about["host"] == socket.gethostname() and not psutil.pid_exists(int(about["pid"]))
    return False


class FreeSpace:
    """Space on the disk of the directory, which need not be there yet. One look at a time, each on a thread.

    A volume that many machines share may not answer for minutes. A thread that waits for it cannot be stopped, so no
    second one is started; nor is anything else held up by it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._looking: asyncio.Task[int] | None = None

    async def look(self) -> int | None:
        """Bytes; None where the disk does not tell, or not within a second."""
        if self._looking is None:
            # Not through run_blocking: a worker whose git commands fill those threads must not look dead.
            self._looking = asyncio.create_task(asyncio.to_thread(_free_bytes, self._directory))
        done, _ = await asyncio.wait([self._looking], timeout=MEASURE_SECONDS)
        if not done:
            return None
        looked, self._looking = self._looking, None
        try:
            return await looked
        except OSError as error:
            log.warning("free space is not known", directory=str(self._directory), error=str(error))
            return None


def _free_bytes(directory: Path) -> int:
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


async def clock_skew_seconds(store: Store) -> float:
    """How far this machine's clock is ahead of that of Redis; 0 where the answer took too long to tell."""
    before = time.time()
    there = await store.now()
    after = time.time()
    skew = (before + after) / 2 - there
    return round(skew, 3) if abs(skew) > (after - before) / 2 else 0.0


async def announce(
    store: Store, settings: Settings, describe: Callable[[], dict[str, Any]], probes: Probes | None = None
) -> None:
    """Until cancelled, every heartbeat: tell that the process lives, write the file, then the record."""
    probes, space = probes or Probes.of(settings), FreeSpace(settings.state_dir)
    path = presence_file(settings, str(describe()["name"]))
    try:
        while True:
            probes.alive()
            about = describe()
            if (free_bytes := await space.look()) is not None:
                about |= {"free_bytes": free_bytes}
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.write_bytes(orjson.dumps(about))
            except OSError as error:  # a full disk: who says nothing more at all would be taken for dead
                log.warning("presence file not written", error=str(error))
            try:
                async with asyncio.timeout(settings.heartbeat_seconds * RECORD_HEARTBEATS):
                    about |= {"clock_skew_seconds": await clock_skew_seconds(store)}
                    await store.workers.announce(about, ttl_seconds=settings.heartbeat_seconds * RECORD_HEARTBEATS)
            except (StoreError, TimeoutError) as error:
                log.warning("presence not recorded", error=str(error))
                probes.cut_off()
            else:
                probes.ready()
            await asyncio.sleep(settings.heartbeat_seconds)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        probes.gone()
        with contextlib.suppress(StoreError, TimeoutError):  # Redis may have gone first; the record then expires
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await store.workers.withdraw(str(describe()["name"]))
