"""Swarms of equal parts, each of which writes a file of its own, for tests of fleets in pods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from fleet_stack import FleetStack, git

from swarmq.models.swarm import SwarmResult
from swarmq.sync_client import SwarmHandle

MATCH = "Do your part"
STEP = "name=${SWARMQ_BRANCH##*/}; echo step >> ${name%-*}.txt"


def part_conversation(turns: int) -> dict[str, Any]:
    """Of one branch, for the scripted model server: a line more in its file with each turn but the last."""
    steps = {"tool_calls": [{"name": "bash", "arguments": {"command": STEP}}], "times": turns - 1}
    return {"match": MATCH, "turns": [steps, {"text": "My part is done."}]}


def parts(count: int) -> dict[str, str]:
    """Instructions of subtasks, by name; their files are ``part-NN.txt``."""
    return {f"Part {number:02}": f"{MATCH}, {number:02}" for number in range(count)}


def assert_done_once(result: SwarmResult, handle: SwarmHandle, repo: Path, count: int, turns: int) -> None:
    """All succeeded and are merged, and each step of each branch has been recorded exactly once."""
    assert result.success, result.report
    files = git(repo, "ls-tree", "-r", "--name-only", str(result.branch)).split()
    assert files == [*(f"part-{number:02}.txt" for number in range(count)), "shared.txt"]
    for branch in handle.branches():
        answers = [entry.step for entry in handle.transcript(branch.spec.id) if entry.usage is not None]
        assert answers == list(range(1, turns + 1)), branch.spec.id
    assert result.stats.total_steps == count * turns


def begin(fleet: FleetStack, repo: Path, instructions: dict[str, str], *options: str) -> str:
    """The id of a new swarm with these subtasks, by name."""
    plan = fleet.root / f"{repo.name}.yaml"
    subtasks = [{"name": name, "instruction": instruction} for name, instruction in instructions.items()]
    plan.write_text(yaml.safe_dump({"subtasks": subtasks}))
    arguments = ("--plan", str(plan), "--repo", str(repo), "--yes", "--detach", *options)
    done = fleet.run_cli("run", "Do all parts", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
