"""CPU of one step, early and late in a conversation: it must not grow with the transcript.

    scripts/uv run python benchmarks/steps.py

Agents go through ``--steps`` steps side by side; the worker's CPU is read when their sum passes the edges of two
windows, of 20 steps around the early and the late step.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from harness import Fleet, reading, running_fleet

from swarmq import AsyncClient, Plan, Subtask

AGENTS, LATENCY_MS, HALF_WINDOW = 20, 20, 10


async def measure(fleet: Fleet, early: int, late: int) -> None:
    subtasks = tuple(
        Subtask(name=f"reader {number}", instruction=f"Read the files. {number}", kind="read")
        for number in range(AGENTS)
    )
    edges = [early - HALF_WINDOW, early + HALF_WINDOW, late - HALF_WINDOW, late + HALF_WINDOW]
    readings: list[tuple[int, float]] = []
    async with AsyncClient(settings=fleet.settings) as client:
        limits = {"max_steps_per_subagent": late + 100, "max_total_steps": 1_000_000}
        handle = await client.submit(Plan(subtasks=subtasks), repo=fleet.repo, cache="bypass", **limits)
        for edge in edges:
            while (steps := (await handle.status()).steps) < edge * AGENTS:
                await asyncio.sleep(0.005)
            readings.append((steps, fleet.cpu_seconds()))
        await handle.cancel("measured")
        await handle.result(timeout=60)
    for step, (start, end) in ((early, readings[:2]), (late, readings[2:])):
        cpu_ms = (end[1] - start[1]) / (end[0] - start[0]) * 1000
        print(
            json.dumps({"around_step": step, "steps_measured": end[0] - start[0], "cpu_ms_per_step": round(cpu_ms, 2)})
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--early", type=int, default=15)
    parser.add_argument("--late", type=int, default=400)
    given = parser.parse_args()
    with running_fleet([reading("Read the files", given.late + 50)], LATENCY_MS) as fleet:
        asyncio.run(measure(fleet, given.early, given.late))


if __name__ == "__main__":
    main()
