"""What a resolver works on: the conflict of its subtask's branch, as its task."""

from __future__ import annotations

from swarmq.fleet.runtime import Runtime
from swarmq.fleet.standing import plan_of
from swarmq.models.branch import BranchSpec
from swarmq.models.plan import Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.orchestrator.resolving import resolver_instruction
from swarmq.workspace.swarm_repository import SwarmRepository

SPECIALTY = "resolving merge conflicts"


async def task_of(
    runtime: Runtime, swarm: SwarmRecord, spec: BranchSpec, repository: SwarmRepository | None
) -> Subtask:
    """The subtask as the branch is to see it: its own task, or for a resolver the conflict between two sides."""
    plan = plan_of(swarm)
    subtask = plan.subtask(spec.subtask_id)
    if spec.resolves is None or spec.theirs is None or spec.base_commit is None or repository is None:
        return subtask
    stage = await runtime.store.stages.load(spec.swarm_id, spec.stage)
    report = stage.merges.get(spec.resolves) if stage is not None else None
    files = report.conflicts if report is not None else ()
    description = await repository.conflict_description(spec.base_commit, spec.theirs)
    instruction = resolver_instruction(plan, subtask, swarm.results, files, description)
    return subtask.model_copy(update={"instruction": instruction, "specialty": SPECIALTY})
