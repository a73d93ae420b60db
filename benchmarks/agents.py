"""Many agents in one warm worker: wall time, worker CPU per agent, peak memory.

    scripts/uv run python benchmarks/agents.py --agents 1,100,1000

Each agent makes ``--calls`` model calls that ask for one small file each (the real read tool), then answers.
Figures are printed as JSON lines, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from harness import Fleet, reading, running_fleet

from swarmq import AsyncClient, Plan, Subtask

CALLS = 15
LATENCY_MS = 200


async def swarm_of(client: AsyncClient, repo: Path, agents: int) -> tuple[float, float]:
    """Wall seconds from the first branch's start to the last one's end, and from submit to the swarm's end."""
    subtasks = tuple(
        Subtask(name=f"reader {number}", instruction=f"Read the files. {number}", kind="read")
        for number in range(agents)
    )
    started = time.monotonic()
    limits = {"max_subtasks": 1000, "max_subagents": 1000, "max_total_steps": 100_000}
    handle = await client.submit(Plan(subtasks=subtasks), repo=repo, cache="bypass", **limits)
    result = await handle.result(timeout=600)
    whole = time.monotonic() - started
    if not result.success:
        raise SystemExit(f"the swarm failed: {result.report[:2000]}")
    branches = await handle.branches()
    return max(b.finished_at for b in branches) - min(b.started_at for b in branches), whole


async def measure(fleet: Fleet, counts: list[int], calls: int, latency_ms: int) -> None:
    async with AsyncClient(settings=fleet.settings) as client:
        await swarm_of(client, fleet.repo, 2)  # warm
        for count in counts:
            before = fleet.cpu_seconds()
            wall, whole = await swarm_of(client, fleet.repo, count)
            figures = {
                "agents": count,
                "ideal_seconds": round((calls + 1) * latency_ms / 1000, 2),
                "wall_seconds": round(wall, 2),
                "submit_to_end_seconds": round(whole, 2),
                "worker_cpu_ms_per_agent": round((fleet.cpu_seconds() - before) / count * 1000, 1),
                "peak_rss_mb": round(fleet.peak_rss_mb(), 1),
            }
            print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="1,100", help="numbers of agents, separated by commas")
    parser.add_argument("--calls", type=int, default=CALLS, help="tool calls of each agent")
    parser.add_argument("--latency-ms", type=int, default=LATENCY_MS, help="of each model answer")
    given = parser.parse_args()
    counts = [int(count) for count in given.agents.split(",")]
    with running_fleet([reading("Read the files", given.calls)], given.latency_ms) as fleet:
        asyncio.run(measure(fleet, counts, given.calls, given.latency_ms))


if __name__ == "__main__":
    main()
