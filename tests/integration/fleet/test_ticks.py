"""Beat's ticks: one of those that come together is done, and the next interval's is done again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from swarmq.fleet.runtime import Runtime
from swarmq.fleet.tasks import _once
from swarmq.settings import load_settings
from swarmq.store.store import Store


async def test_of_ticks_that_come_together_one_is_done(store: Store, tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path)
    runtime = Runtime(settings, store, None, None, "worker")  # type: ignore[arg-type]
    done: list[str] = []

    async def work(_: Runtime) -> None:
        done.append("tick")

    for _ in range(3):
        await _once(runtime, "reconcile", 60, work)
    assert len(done) <= 1  # none, where each reply is lost: the next interval's tick does it
    before = len(done)
    await _once(runtime, "gc", 60, work)
    assert len(done) <= before + 1
    async with asyncio.timeout(10):
        while len(done) < 4:  # as intervals pass; a lost reply costs one of them
            await _once(runtime, "short", 0.002, work)
