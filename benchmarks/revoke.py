"""From ``revoke(terminate=True)`` of a running branch to the model server seeing its connection closed.

    scripts/uv run python benchmarks/revoke.py --runs 50

The branch is in a model call, and has a shell with a grandchild behind it; the time until those are gone is told too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from typing import Any

import psutil
from harness import Fleet, running_fleet

from swarmq import AsyncClient, Plan, Subtask
from swarmq.fleet.dispatch import branch_task_id

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


async def one_run(client: AsyncClient, fleet: Fleet) -> tuple[float, float]:
    before = len(clients_gone(fleet))
    plan = Plan(subtasks=(Subtask(name="Waiter", instruction="Wait", kind="verify"),))
    handle = await client.submit(plan, repo=fleet.repo, cache="bypass")
    while (await handle.status()).steps < 1:
        await asyncio.sleep(0.01)
    await until(lambda: sleepers() == 2)
    await until(lambda: stats(fleet)["in_flight"] == 1)  # the second model call is under way
    started = time.monotonic()
    task_id = branch_task_id(handle.id, "waiter")
    await asyncio.to_thread(client.dispatch.app.control.revoke, task_id, terminate=True)
    await until(lambda: len(clients_gone(fleet)) > before)
    closed = clients_gone(fleet)[-1] - started
    await until(lambda: sleepers() == 0)
    ended = time.monotonic() - started
    await handle.result(timeout=30)
    return closed * 1000, ended * 1000


async def measure(fleet: Fleet, runs: int) -> None:
    async with AsyncClient(settings=fleet.settings) as client:
        timed = [await one_run(client, fleet) for _ in range(runs)]
    for what, values in (("connection_closed", [t[0] for t in timed]), ("processes_gone", [t[1] for t in timed])):
        p95 = statistics.quantiles(values, n=20)[18]
        figures = {"median_ms": statistics.median(values), "p95_ms": p95, "max_ms": max(values)}
        print(json.dumps({"what": what, "runs": runs} | {name: round(value, 1) for name, value in figures.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    given = parser.parse_args()
    with running_fleet([CONVERSATION], 10) as fleet:
        asyncio.run(measure(fleet, given.runs))


if __name__ == "__main__":
    main()
