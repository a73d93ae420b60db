"""What shrinking a busy fleet costs: 40 branches on 4 agents workers, which are told to stop until one is left.

    scripts/uv run python benchmarks/scale_in.py --branches 40 --workers 4

``seconds_to_stop`` is from SIGTERM to the end of each process, ``handed_over`` how often a branch changed its worker,
``calls_cut_off`` the model calls that were under way then, ``calls_repeated`` how many were asked more than once, and
``steps_repeated`` how many of those had been answered before: what was paid for twice.
Figures are printed as JSON lines, nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fleet_stack import FleetStack, running_fleet, until

from swarmq import Client, Plan, Subtask
from swarmq.models.branch import BranchState
from swarmq.testing import Script

STEPS, LATENCY_MS = 8, 600
TIMEOUT_SECONDS = 300.0


def script(branches: int) -> Script:
    turns = [
        {"tool_calls": [{"name": "read", "arguments": {"file_path": "shared.txt"}}], "times": STEPS},
        {"text": "x"},
    ]
    talks = [{"match": f"Job {number:03}", "turns": turns} for number in range(branches)]
    return Script.model_validate({"latency_ms": LATENCY_MS, "conversations": talks})


def shrink(fleet: FleetStack, branches: int, workers: int) -> dict[str, object]:
    names = [f"Job {number:03}" for number in range(branches)]
    plan = Plan(subtasks=tuple(Subtask(name=name, instruction=name, kind="read") for name in names))
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.submit(plan, repo=fleet.repository("shrinking"), cache="bypass", max_total_steps=100_000)

        def all_run() -> bool:
            return sum(branch.state is BranchState.RUNNING for branch in handle.branches()) == branches

        until(all_run, "all branches", TIMEOUT_SECONDS)
        stops = []
        for number in range(1, workers):
            started = time.monotonic()
            fleet.kill(f"agents-{number}", signal.SIGTERM)
            stops.append(round(time.monotonic() - started, 2))
        result = handle.result(TIMEOUT_SECONDS)
        handed_over = sum(branch.token - 1 for branch in handle.branches())
    asked = Counter((request.match, request.answers) for request in fleet.server.requests if request.status == 200)
    repeated = sum(asked.values()) - len(asked)
    return {
        "branches": branches,
        "workers": workers,
        "succeeded": sum(subtask.success for subtask in result.subtasks),
        "steps": result.stats.total_steps,
        "seconds_to_stop": stops,
        "handed_over": handed_over,
        "lost_leases": result.stats.lost_leases,
        "calls_cut_off": fleet.server.clients_gone,
        "calls_repeated": repeated,
        "steps_repeated": max(0, repeated - fleet.server.clients_gone),
        "wall_seconds": round(result.stats.wall_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    with running_fleet(start=False, script=script(given.branches)) as fleet:
        for queue in ("control", "integrate"):
            fleet.start_worker(queue)
        fleet.start("beat", "beat")
        for number in range(given.workers):
            fleet.start_worker("agents", f"agents-{number}")
        for name in ("control", "integrate", *(f"agents-{number}" for number in range(given.workers))):
            fleet.await_worker(name)
        print(json.dumps(shrink(fleet, given.branches, given.workers)))


if __name__ == "__main__":
    main()
