"""When running branches are stopped because others do better, or because they do badly (S10)."""

from __future__ import annotations

from pydantic import Field

from swarmq.models.base import Record


class CollapsePolicy(Record):
    """The thresholds of the collapse controller."""

    max_invariant_breaks: int = Field(6, ge=1, le=1000, description="Breaks in a row after which a branch is stopped.")
    max_consecutive_compile_failures: int = Field(
        6, ge=1, le=1000, description="Failing static checks in a row of a branch that stands still."
    )
    max_consecutive_resource_failures: int = Field(
        2, ge=1, le=1000, description="Unhealthy samples of a branch's pod in a row."
    )
    min_score: float = Field(0.30, ge=0, le=1, description="Only branches that score less are pruned.")
    min_gap: float = Field(0.15, ge=0, le=1, description="How far behind the best a pruned branch must be.")
    min_resource_health: float = Field(0.35, ge=0, le=1, description="Health of a pod below which it counts as bad.")

    @classmethod
    def seed(cls) -> CollapsePolicy:
        """The thresholds of the executor that swarmq re-creates: every failing sample counts, the first one kills."""
        return cls(
            max_invariant_breaks=2,
            max_consecutive_compile_failures=1,
            max_consecutive_resource_failures=2,
            min_score=0.30,
            min_gap=0.15,
            min_resource_health=0.35,
        )
