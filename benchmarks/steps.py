"""CPU and Redis scripts of one step, early and late in a conversation: neither may grow with the transcript.

    scripts/uv run python benchmarks/steps.py

Agents go through ``--steps`` steps side by side; the worker's CPU is read when their sum passes the edges of two
windows, of 20 steps around the early and the late step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass

from harness import Fleet, reading, running_fleet

from swarmq import AsyncClient, Plan, Subtask

AGENTS, LATENCY_MS, HALF_WINDOW = 20, 20, 10


@dataclass(frozen=True)
class Reading:
    steps: int
    cpu_seconds: float
    scripts: int
    redis_ms: float


async def scripts(client: AsyncClient) -> tuple[int, float]:
    """How many scripts the server has run so far (leases, records, permits), and the milliseconds that they took."""
    info = bytes(await client.store.gate.call("INFO", "commandstats")).decode()
    line = next(line for line in info.splitlines() if line.startswith("cmdstat_evalsha:"))
    figures = dict(part.split("=") for part in line.partition(":")[2].split(","))
    return int(figures["calls"]), int(figures["usec"]) / 1000


async def measure(fleet: Fleet, early: int, late: int) -> None:
    subtasks = tuple(
        Subtask(name=f"reader {number}", instruction=f"Read the files. {number}", kind="read")
        for number in range(AGENTS)
    )
    edges = [early - HALF_WINDOW, early + HALF_WINDOW, late - HALF_WINDOW, late + HALF_WINDOW]
    readings: list[Reading] = []
    async with AsyncClient(settings=fleet.settings) as client:
        limits = {"max_steps_per_subagent": late + 100, "max_total_steps": 1_000_000}
        handle = await client.submit(Plan(subtasks=subtasks), repo=fleet.repo, cache="bypass", **limits)
        for edge in edges:
            while (steps := (await handle.status()).steps) < edge * AGENTS:
                await asyncio.sleep(0.005)
            readings.append(Reading(steps, fleet.cpu_seconds(), *await scripts(client)))
        await handle.cancel("measured")
        await handle.result(timeout=60)
    for step, (start, end) in ((early, readings[:2]), (late, readings[2:])):
        count = end.steps - start.steps
        figures = {
            "around_step": step,
            "steps_measured": count,
            "cpu_ms_per_step": round((end.cpu_seconds - start.cpu_seconds) / count * 1000, 2),
            "redis_scripts_per_step": round((end.scripts - start.scripts) / count, 2),
            "redis_ms_per_step": round((end.redis_ms - start.redis_ms) / count, 3),
        }
        print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--early", type=int, default=15)
    parser.add_argument("--late", type=int, default=400)
    given = parser.parse_args()
    with running_fleet([reading("Read the files", given.late + 50)], LATENCY_MS) as fleet:
        asyncio.run(measure(fleet, given.early, given.late))


if __name__ == "__main__":
    main()
