"""From stopping a running branch to the model server seeing its connection closed.

    scripts/uv run python benchmarks/revoke.py --runs 50
    scripts/uv run python benchmarks/revoke.py --runs 50 --collapse [--pool prefork]

The branch is in a model call, and has a shell with a grandchild behind it; the time until those are gone is told too.
It is stopped by ``revoke(terminate=True)`` of its task. With ``--collapse`` the collapse controller decides on
it: the time runs from the decision on, so the mark in Redis and the broadcast are part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from harness import Fleet, running_fleet

from swarmq import AsyncClient, Plan, Subtask
from swarmq.client import AsyncSwarmHandle
from swarmq.fleet.collapse import RevokingCanceller
from swarmq.fleet.dispatch import branch_task_id
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE, Kill
from swarmq.models.events import Event, EventType

Stop = Callable[[AsyncClient, AsyncSwarmHandle], Awaitable[None]]

SLEEP = "86399"
CONVERSATION = {
    "match": "Wait",
    "turns": [
        {
            "tool_calls": [
                {"name": "bash", "arguments": {"command": f"(setsid sleep {SLEEP} &) ; sleep {SLEEP} & echo on"}}
            ]
        },
        {"text": "never", "latency_ms": 600_000},
    ],
}


def stats(fleet: Fleet) -> dict[str, Any]:
    """What the model server tells of itself."""
    base = fleet.settings.endpoints["bench"].base_url.removesuffix("/v1")
    with urllib.request.urlopen(f"{base}/stats") as answer:
        return dict(json.load(answer))


def clients_gone(fleet: Fleet) -> list[float]:
    return list(stats(fleet)["clients_gone_at"])


def sleepers() -> int:
    return sum(process.info["cmdline"] == ["sleep", SLEEP] for process in psutil.process_iter(["cmdline"]))


async def until(ready: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit("waited too long")
        await asyncio.sleep(0.002)


async def revoke(client: AsyncClient, handle: AsyncSwarmHandle) -> None:
    """What Flower's button does."""
    task_id = branch_task_id(handle.id, "waiter")
    await asyncio.to_thread(client.dispatch.app.control.revoke, task_id, terminate=True)


async def kill(client: AsyncClient, handle: AsyncSwarmHandle) -> None:
    """What a look of the collapse controller does once it has judged."""
    reason = f"{CANCELLED_BY_COLLAPSE}the benchmark says so"
    event = Event(
        type=EventType.BRANCH_KILLED, at=time.time(), swarm=handle.id, branch="waiter", data={"reason": reason}
    )
    before = await client.store.collapse.recall(handle.id)
    decided = Kill(branch_id="waiter", reason=reason, score=0.0)
    marked = await client.store.collapse.decide(handle.id, before.looks, before.state, None, [(decided, event)])
    await RevokingCanceller(client.dispatch).stop(handle.id, marked or ())


async def one_run(client: AsyncClient, fleet: Fleet, stop: Stop) -> tuple[float, float]:
    before = len(clients_gone(fleet))
    plan = Plan(subtasks=(Subtask(name="Waiter", instruction="Wait", kind="verify"),))
    handle = await client.submit(plan, repo=fleet.repo, cache="bypass", collapse="off")
    while (await handle.status()).steps < 1:
        await asyncio.sleep(0.01)
    await until(lambda: sleepers() == 2)
    await until(lambda: stats(fleet)["in_flight"] == 1)  # the second model call is under way
    started = time.monotonic()
    await stop(client, handle)
    await until(lambda: len(clients_gone(fleet)) > before)
    closed = clients_gone(fleet)[-1] - started
    await until(lambda: sleepers() == 0)
    ended = time.monotonic() - started
    await handle.result(timeout=30)
    return closed * 1000, ended * 1000


async def measure(fleet: Fleet, runs: int, stop: Stop) -> None:
    async with AsyncClient(settings=fleet.settings) as client:
        timed = [await one_run(client, fleet, stop) for _ in range(runs)]
    for what, values in (("connection_closed", [t[0] for t in timed]), ("processes_gone", [t[1] for t in timed])):
        p95 = statistics.quantiles(values, n=20)[18]
        figures = {"median_ms": statistics.median(values), "p95_ms": p95, "max_ms": max(values)}
        print(json.dumps({"what": what, "runs": runs} | {name: round(value, 1) for name, value in figures.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--collapse", action="store_true", help="stopped by a decision of the collapse controller")
    parser.add_argument("--pool", choices=("agents", "prefork"), default="agents", help="of the agents worker")
    given = parser.parse_args()
    with running_fleet([CONVERSATION], 10, pool=given.pool) as fleet:
        asyncio.run(measure(fleet, given.runs, kill if given.collapse else revoke))


if __name__ == "__main__":
    main()
