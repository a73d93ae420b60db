"""The figures of a finished swarm (S3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.models.plan import Plan
from swarmq.models.spent import total
from swarmq.models.swarm import Baseline, StageStats, SubtaskResult, SwarmRecord, SwarmStats
from swarmq.orchestrator.paths import critical_path
from swarmq.orchestrator.savings import saved_by_stopping


class StageTimes(Protocol):
    """When a stage ran, in Unix seconds; ``finished_at`` is 0 where it did not end."""

    @property
    def stage(self) -> int: ...

    @property
    def opened_at(self) -> float: ...

    @property
    def finished_at(self) -> float: ...


def swarm_stats(
    record: SwarmRecord,
    results: Sequence[SubtaskResult],
    stages: Iterable[StageTimes],
    counters: Mapping[str, float],
    now: float,
    baseline: Baseline | None = None,
) -> SwarmStats:
    """The figures. ``counters`` are those that the swarm kept while it ran; ``now`` is Unix seconds.

    A subtask counts with what its own branch used here: nothing where it was blocked or came from the cache, what it
    had used where it failed, and of a race what the promoted candidate used. The whole counts what all branches used.
    """
    of_stages = tuple(stage_stats(stage, results, now) for stage in sorted(stages, key=lambda stage: stage.stage))
    wall_seconds = max(0.0, (record.finished_at or now) - (record.started_at or record.spec.created_at))
    sequential_seconds = sum(result.duration_seconds for result in results)
    critical_steps, _ = _critical_path(record.plan, {result.name: result.steps for result in results})
    critical_seconds, critical_names = _critical_path(
        record.plan, {result.name: result.duration_seconds for result in results}
    )
    return SwarmStats(
        stages=of_stages,
        critical_path=critical_names,
        critical_path_seconds=critical_seconds,
        critical_path_steps=int(critical_steps),
        # The counters also hold losers of races and resolvers; tokens and cost planning and synthesis, too.
        total_steps=int(counters.get("steps", 0)),
        tool_calls=int(counters.get("tool_calls", 0)),
        wall_seconds=wall_seconds,
        sequential_seconds=sequential_seconds,
        speedup=sequential_seconds / wall_seconds if wall_seconds > 0 else 0.0,
        baseline=baseline,
        speedup_over_baseline=baseline.wall_seconds / wall_seconds if baseline and wall_seconds > 0 else None,
        usage=Usage(**{name: int(counters.get(name, 0)) for name in Usage.model_fields}),
        cost_usd=None if counters.get("unpriced_calls") else counters.get("cost_nano_usd", 0) / NANO_PER_USD,
        cache_hits=int(counters.get("cache_hits", 0)),
        cache_misses=int(counters.get("cache_misses", 0)),
        cache_waits=int(counters.get("cache_waits", 0)),
        saved_by_cache=total(result.spared for result in results if result.spared is not None),
        saved_by_collapse=total(saved_by_stopping(result.candidates) for result in results),
        retries=sum(result.retries for result in results),
        rate_limit_wait_seconds=counters.get("rate_limit_wait_seconds", 0.0),
        lost_leases=int(counters.get("lost_leases", 0)),
    )


def _critical_path(plan: Plan | None, weights: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    return (0.0, ()) if plan is None else critical_path(plan, weights)


def stage_stats(stage: StageTimes, results: Iterable[SubtaskResult], now: float) -> StageStats:
    """One stage; subtasks that were blocked or never started had no agent."""
    ran = [result for result in results if result.stage == stage.stage and result.branch_id is not None]
    steps = [result.steps for result in ran]
    return StageStats(
        stage=stage.stage,
        subagents=len(ran),
        max_steps=max(steps, default=0),
        total_steps=sum(steps),
        seconds=max(0.0, (stage.finished_at or now) - stage.opened_at),
    )
