from __future__ import annotations

import asyncio
from pathlib import Path

from swarmq.fleet.presence import announce, describe_worker, presence_file
from swarmq.settings import load_settings
from swarmq.store.store import Store


async def test_a_worker_is_there_while_it_announces_itself_and_gone_afterwards(store: Store, tmp_path: Path) -> None:
    settings = load_settings(runtime_dir=tmp_path, heartbeat_seconds=0.05)
    announcing = asyncio.create_task(announce(store, settings, lambda: describe_worker("w1", ["agents"], 0.0, 3, 0.0)))
    while not await store.workers.list():
        await asyncio.sleep(0)
    assert presence_file(settings, "w1").exists()
    assert [(worker["name"], worker["running"]) for worker in await store.workers.list()] == [("w1", 3)]
    announcing.cancel()
    await asyncio.gather(announcing, return_exceptions=True)
    assert not presence_file(settings, "w1").exists()
    assert await store.workers.list() == []
