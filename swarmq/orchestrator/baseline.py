"""The same task done by one agent alone: what a swarm is to be compared with. Pure."""

from __future__ import annotations

import hashlib

import orjson

from swarmq.models.options import Strategy
from swarmq.models.swarm import Baseline, SwarmRecord, SwarmResult
from swarmq.orchestrator.decompose import single_subtask


def baseline_key(record: SwarmRecord, model: str, base_tree: str | None) -> str:
    """SHA-256 over what makes two swarms comparable: task, context, repository, the files' hash, the model."""
    spec = record.spec
    values = [spec.task.strip(), spec.context.strip(), spec.repo, base_tree, model]
    return hashlib.sha256(orjson.dumps(values)).hexdigest()


def as_baseline(record: SwarmRecord, result: SwarmResult) -> Baseline | None:
    """What an ended swarm tells of one agent alone; None where it was more than one, failed, or did not do it all."""
    if record.spec.options.strategy is not Strategy.NONE or record.spec.retry_of is not None or not result.success:
        return None
    alone = [subtask.instruction for subtask in record.plan.subtasks] if record.plan else []
    done = result.subtasks[0]
    if alone != [single_subtask(record.spec).instruction] or done.cached or done.candidates:
        return None
    return measured(result)


def measured(result: SwarmResult) -> Baseline:
    """The figures of any ended swarm, to compare another with. Wall time: pauses and queues count."""
    stats = result.stats
    return Baseline(
        swarm=result.id,
        steps=stats.total_steps,
        tokens=stats.usage.input_tokens + stats.usage.output_tokens,
        cost_usd=stats.cost_usd,
        wall_seconds=stats.wall_seconds,
    )
