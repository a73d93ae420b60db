"""Stages against early starts: wall time over the critical path, on three shapes of plan.

    scripts/uv run python benchmarks/schedule.py

Each subtask makes some model calls, writes a file of its own and answers; how many differs from subtask to subtask. The
critical path is the longest chain of branches by the time that they ran, so it leaves out queueing and merging.
Figures are printed as JSON lines, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any

from harness import Fleet, running_fleet

from swarmq import AsyncClient, Plan, Subtask

Shape = dict[str, tuple[int, tuple[str, ...]]]
"""Name -> (model calls, dependencies)."""

TWO_CHAINS: Shape = {
    "a1": (12, ()),
    "a2": (2, ("a1",)),
    "a3": (2, ("a2",)),
    "a4": (2, ("a3",)),
    "b1": (2, ()),
    "b2": (2, ("b1",)),
    "b3": (2, ("b2",)),
    "b4": (12, ("b3",)),
}
COMB: Shape = {f"spine{n}": (2, (f"spine{n - 1}",) if n else ()) for n in range(5)} | {
    f"tooth{n}": (10, (f"spine{n}",)) for n in range(5)
}


def layered(seed: int) -> Shape:
    """Twenty subtasks of random length, each behind up to three earlier ones."""
    luck = random.Random(seed)
    shape: Shape = {}
    for number in range(20):
        earlier = list(shape)
        needs = tuple(sorted(luck.sample(earlier, min(len(earlier), luck.randint(0, 3)))))
        shape[f"s{number:02}"] = (luck.randint(2, 12), needs)
    return shape


SHAPES = {"two chains": TWO_CHAINS, "comb": COMB, "random": layered(7)}


def conversations(shapes: dict[str, Shape]) -> list[dict[str, Any]]:
    found = []
    for shape in shapes.values():
        for name, (calls, _) in shape.items():
            read: dict[str, Any] = {"tool_calls": [{"name": "read", "arguments": {"file_path": "src/f0.py"}}]}
            write = {"name": "write", "arguments": {"file_path": f"{name}.txt", "content": name}}
            turns = [*[read] * (calls - 2), {"tool_calls": [write]}, {"text": f"{name} is done."}]
            found.append({"match": f"Do {name}.", "turns": turns})
    return found


async def measure(fleet: Fleet, runs: int) -> None:
    async with AsyncClient(settings=fleet.settings) as client:
        for _ in range(runs):
            for label, shape in SHAPES.items():
                for schedule in ("stages", "ready"):
                    print(json.dumps(await figures(client, fleet, label, shape, schedule)), flush=True)


async def figures(client: AsyncClient, fleet: Fleet, label: str, shape: Shape, schedule: str) -> dict[str, Any]:
    subtasks = [Subtask(name=name, instruction=f"Do {name}.", dependencies=needs) for name, (_, needs) in shape.items()]
    handle = await client.submit(
        Plan(subtasks=tuple(subtasks)), repo=fleet.repo, cache="bypass", schedule=schedule, auto_merge=True
    )
    result = await handle.result(timeout=600)
    if not result.success:
        raise SystemExit(f"the swarm failed: {result.report[:2000]}")
    branches = {branch.spec.subtask_id: branch for branch in await handle.branches()}
    lengths: dict[str, float] = {}
    for name, (_, needs) in shape.items():  # dependencies come first
        took = branches[name].finished_at - branches[name].started_at
        lengths[name] = took + max((lengths[need] for need in needs), default=0.0)
    critical_seconds = max(lengths.values())
    wall_seconds = max(b.finished_at for b in branches.values()) - min(b.started_at for b in branches.values())
    return {
        "shape": label,
        "schedule": schedule,
        "subtasks": len(shape),
        "critical_path_seconds": round(critical_seconds, 2),
        "wall_seconds": round(wall_seconds, 2),
        "wall_over_critical_path": round(wall_seconds / critical_seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="of each shape with each schedule")
    parser.add_argument("--latency-ms", type=int, default=200, help="of each model answer")
    given = parser.parse_args()
    with running_fleet(conversations(SHAPES), given.latency_ms) as fleet:
        asyncio.run(measure(fleet, given.runs))


if __name__ == "__main__":
    main()
