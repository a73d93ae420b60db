"""How far 100 branches on several workers go beyond a budget of tokens.

    scripts/uv run python benchmarks/budget.py --branches 100 --workers 4

Every call uses the same number of tokens. ``overshoot_calls`` is by how many calls the swarm went beyond its budget;
``left_calls`` how many more would have fitted; calls in flight at once tell how hard that was.
Figures are printed as JSON lines, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from harness import Fleet, reading, running_fleet

from swarmq import AsyncClient, Plan, Subtask

INPUT_TOKENS, OUTPUT_TOKENS = 1_500, 300
CALLS = 15
LATENCY_MS = 200


def conversation(surprise: float) -> dict[str, Any]:
    """Each answer uses the same; with ``surprise`` that many times what a call is expected to."""
    found = reading("Read the files", CALLS)
    usage = {"input": round(INPUT_TOKENS * surprise), "output": round(OUTPUT_TOKENS * surprise)}
    for turn in found["turns"]:
        turn["usage"] = usage
    return found


async def spend(fleet: Fleet, branches: int, share: float, surprise: float) -> dict[str, Any]:
    """A swarm that has budget for ``share`` of its calls."""
    per_call = round(INPUT_TOKENS * surprise) + round(OUTPUT_TOKENS * surprise)
    budget = round(branches * (CALLS + 1) * share) * per_call
    subtasks = tuple(
        Subtask(name=f"reader {number}", instruction=f"Read the files. {number}", kind="read")
        for number in range(branches)
    )
    async with AsyncClient(settings=fleet.settings) as client:
        handle = await client.submit(
            Plan(subtasks=subtasks), repo=fleet.repo, cache="bypass", max_tokens=budget, max_total_steps=100_000
        )
        result = await handle.result(timeout=300)
    used = result.stats.usage.input_tokens + result.stats.usage.output_tokens
    return {
        "branches": branches,
        "budget_calls": budget // per_call,
        "used_calls": round(used / per_call, 2),
        "overshoot_calls": max(0, round((used - budget) / per_call, 2)),
        "left_calls": max(0, round((budget - used) / per_call, 2)),
        "actual_over_expected": surprise,
        "exhausted": sum(subtask.limit == "max_tokens" for subtask in result.subtasks),
        "wall_seconds": round(result.stats.wall_seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4, help="agents workers")
    parser.add_argument("--share", type=float, default=0.5, help="of the calls that the budget is enough for")
    given = parser.parse_args()
    for surprise in (1.0, 4.0):
        script = [conversation(surprise)]
        with running_fleet(script, LATENCY_MS, agents_workers=given.workers) as fleet:
            print(json.dumps(asyncio.run(spend(fleet, given.branches, given.share, surprise))), flush=True)


if __name__ == "__main__":
    main()
