"""The API of Kubernetes away for half a minute while pods work: what it costs the swarm, on the double of the tests.

    scripts/uv run python benchmarks/pods_away.py --pods 20 --seconds 30

A fleet of processes (Valkey, workers, beat) runs a swarm whose agents are processes of this machine; each edits its
file with every step. When all are at work, every connection to the API breaks, and new ones do for that long.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fleet_stack import FleetStack, git, running_fleet, until
from kubernetes_double import KubernetesDouble, Rights

from swarmq import Client
from swarmq.kubernetes.rights import RIGHTS
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.events import EventType
from swarmq.testing import Script

MATCH = "Do your part"
STEP = "name=${SWARMQ_BRANCH##*/}; echo step >> ${name%-*}.txt"
BEGIN_SECONDS, END_SECONDS = 120.0, 300.0


def script(turns: int, latency_seconds: float) -> Script:
    step = {"tool_calls": [{"name": "bash", "arguments": {"command": STEP}}], "times": turns - 1}
    conversation = {"match": MATCH, "turns": [step, {"text": "My part is done."}]}
    return Script.model_validate({"latency_ms": int(latency_seconds * 1000), "conversations": [conversation]})


def started(fleet: FleetStack) -> None:
    for queue in ("control", "integrate", "pods"):
        fleet.start_worker(queue)
    fleet.start("beat", "beat")
    for name in ("control", "integrate", "pods"):
        fleet.await_worker(name)


def submitted(fleet: FleetStack, pods: int) -> str:
    plan = fleet.root / "plan.yaml"
    parts = [{"name": f"Part {number:02}", "instruction": f"{MATCH}, {number:02}"} for number in range(pods)]
    plan.write_text(yaml.safe_dump({"subtasks": parts}))
    repo = fleet.repository("away")
    arguments = ("--plan", str(plan), "--repo", str(repo), "--placement", "pod", "--yes", "--detach")
    done = fleet.run_cli("run", "Do all parts", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(fleet: FleetStack, cluster: KubernetesDouble, pods: int, turns: int, away_seconds: float) -> None:
    started(fleet)
    begun = time.monotonic()
    swarm_id = submitted(fleet, pods)
    with Client(fleet.url, settings=fleet.settings()) as client:
        handle = client.get(swarm_id)

        def at_work() -> bool:
            running = [one for one in handle.branches() if one.state is BranchState.RUNNING]
            return sum(steps(one) > 0 for one in running) >= pods

        until(at_work, "all agents at work", BEGIN_SECONDS)
        before, recorded = Counter(cluster.counted()), sum(map(steps, handle.branches()))
        called = fleet.requests(MATCH)
        print(f"{time.monotonic() - begun:5.1f} s: {pods} pods at work, {recorded} steps recorded, the API goes away")
        cluster.go_away()
        threading.Event().wait(away_seconds)
        meanwhile = fleet.requests(MATCH) - called
        working = sum(one.state is BranchState.RUNNING for one in handle.branches())
        print(f"{time.monotonic() - begun:5.1f} s: it is back; {working} branches running, {meanwhile} model calls")
        cluster.come_back()
        back = time.monotonic()
        result = handle.result(END_SECONDS)
        print(f"{time.monotonic() - begun:5.1f} s: {result.state}, {time.monotonic() - back:.1f} s after its return")
        answers = {
            one.spec.id: [entry.step for entry in handle.transcript(one.spec.id) if entry.usage is not None]
            for one in handle.branches()
        }
        told = [event for event in handle.events() if event.type is EventType.BRANCH_STEP]
        repo = fleet.root / "repos" / "away"
        files = git(repo, "ls-tree", "-r", "--name-only", str(result.branch)).split()
        calls = Counter(cluster.counted()) - before
        print(f"  branches with each step recorded once: {sum(a == [*range(1, turns + 1)] for a in answers.values())}")
        print(f"  steps told: {len(told)} of {pods * turns}; model calls: {fleet.requests(MATCH)}")
        print(f"  files merged: {len(files) - 1}; lost leases: {result.stats.lost_leases}")
        print(f"  pods made: {cluster.counted()['create pods']}; pods left: {len(cluster.objects('pods'))}")
        print(f"  answered calls from then on: {dict(calls)}")


def steps(branch: BranchRecord) -> int:
    if branch.outcome is not None:
        return branch.outcome.steps
    return branch.observation.steps if branch.observation else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--latency", type=float, default=6.0, help="Seconds that a model call takes.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swarmq-bench-") as directory:
        rights = Rights({(right.verb, right.resource) for right in RIGHTS} | {("list", "events")})
        cluster = KubernetesDouble.start(Path(directory), rights)
        variables = {
            "SWARMQ_KUBECONFIG": str(cluster.kubeconfig),
            "SWARMQ_POD_IMAGE": "registry.example/swarmq:test",
            "SWARMQ_POD_BUDGET": str(options.pods),
        }
        try:
            with running_fleet(start=False, script=script(options.turns, options.latency), **variables) as fleet:
                run(fleet, cluster, options.pods, options.turns, options.seconds)
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
