"""Workers that stall longer than their leases, all at once, with a reconciler and cut connections: real races."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from store_samples import DONE, SWARM, opened
from valkey_server import Valkey

from swarmq.errors import LeaseLost
from swarmq.models.branch import BranchState
from swarmq.models.messages import Usage, user
from swarmq.models.transcript import Entry
from swarmq.store.branches import Cancelled, Claim, Finished
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.store.transcripts import Reservation

BRANCHES = [f"b{n}" for n in range(12)]
STEPS = 15
LEASE_SECONDS = 0.02
MAX_SUBAGENTS = 5


@dataclass
class Storm:
    """Messages that may be lost or doubled, and what the workers were told."""

    store: Store
    chance: random.Random
    database: int
    messages: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    advances: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    stale: int = 0

    def send(self, *branch_ids: str) -> None:
        for branch_id in branch_ids:
            for _ in range(self.chance.choice((0, 1, 1, 1, 2))):
                self.messages.put_nowait(branch_id)

    def follow_up(self, end: Claim | Finished | Cancelled) -> None:
        self.advances += end.advance
        self.send(*end.publish)

    async def worker(self, name: str) -> None:
        while True:
            branch_id = await self.messages.get()
            claim = await self.store.branches.claim(SWARM, branch_id, name, LEASE_SECONDS)
            self.follow_up(claim)
            if claim.status == "claimed":
                try:
                    await self.work(branch_id, claim.token)
                except LeaseLost:
                    self.stale += 1

    async def work(self, branch_id: str, token: int) -> None:
        done = len(await self.store.transcripts.load(SWARM, branch_id))
        for step in range(done, STEPS):
            if self.chance.random() < 0.3:  # stalls, as a paused process would
                await asyncio.sleep(self.chance.uniform(0, 3 * LEASE_SECONDS))
            entry = Entry(step=step, at=token, message=user(f"{step}")).encode()
            await self.store.transcripts.record(
                SWARM, branch_id, token, step, [entry], [],
                steps=1, tool_calls=0, usage=Usage(), reserve=Reservation() if step + 1 < STEPS else None,
            )  # fmt: skip
            if self.chance.random() < 0.05:
                await self.store.branches.release(SWARM, branch_id, token)
                self.send(branch_id)
                return
        end = await self.store.branches.finish(SWARM, branch_id, token, DONE)
        self.ends[branch_id] += 1
        self.follow_up(end)

    async def reconcile(self) -> None:
        """Sends again what stands still, until all have ended; watches the number of active branches."""
        while True:
            now = await self.store.now()
            records = await self.store.branches.load_all(SWARM)
            active = [found for found in records if found.state in (BranchState.QUEUED, BranchState.RUNNING)]
            assert len(active) <= MAX_SUBAGENTS
            if all(found.state is BranchState.DONE for found in records):
                return
            late = [found for found in active if max(found.lease_until, found.queued_at + LEASE_SECONDS) < now]
            self.send(*(found.spec.id for found in late))
            await asyncio.sleep(LEASE_SECONDS)

    async def cut(self) -> None:
        """Breaks all connections of this database's clients, now and then."""
        while True:
            await asyncio.sleep(self.chance.uniform(0, 0.1))
            for line in (await self.store.gate.call("CLIENT", "LIST")).decode().splitlines():
                facts = dict(word.split("=", 1) for word in line.split())
                if facts["db"] == str(self.database) and facts["cmd"] != "client|list":
                    await self.store.gate.call("CLIENT", "KILL", "ID", facts["id"])


@pytest.fixture
async def stores(valkey: Valkey) -> AsyncIterator[list[Store]]:
    gates = [Gate.open(valkey.url, retry_seconds=10) for _ in range(3)]
    yield [Store(gate) for gate in gates]
    for gate in gates:
        await gate.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_stalling_workers_do_no_harm(stores: list[Store], valkey: Valkey, seed: int) -> None:
    chance = random.Random(seed)
    queued = await opened(stores[0], *BRANCHES, max_subagents=MAX_SUBAGENTS, max_deliveries=100)
    storm, *others = (Storm(store, chance, valkey.database) for store in stores)
    for side in others:
        side.messages, side.ends = storm.messages, storm.ends
    storm.send(*queued)
    workers = [
        asyncio.create_task(side.worker(f"w{n}")) for n, side in enumerate([storm, *others, storm, *others, *others])
    ]
    cutting = asyncio.create_task(storm.cut())
    async with asyncio.timeout(30):
        await storm.reconcile()
    for task in (*workers, cutting):
        task.cancel()
    outcomes = await asyncio.gather(*workers, cutting, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    assert sum(side.stale for side in (storm, *others)) > 0, "nobody was ever late: this storm shows nothing"
    assert max(storm.ends.values(), default=0) <= 1
    for branch_id in BRANCHES:
        entries = await stores[0].transcripts.load(SWARM, branch_id)
        assert [entry.step for entry in entries] == list(range(STEPS))  # nothing repeated, nothing lost
        tokens = [entry.at for entry in entries]
        assert tokens == sorted(tokens)  # a holder never wrote after a newer one
    stage = await stores[0].stages.load(SWARM, 0)
    assert stage is not None
    assert stage.state == "advancing"
    assert sum(side.advances for side in (storm, *others)) <= 1
    counters = await stores[0].swarms.counters(SWARM)
    assert counters["steps"] == counters["reserved_steps"] == STEPS * len(BRANCHES)
