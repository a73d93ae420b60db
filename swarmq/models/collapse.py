"""When running branches are stopped because others do better, or because they do badly (S10)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from swarmq.models.base import SCHEMA_VERSION, Record

CANCELLED_BY_COLLAPSE = "Cancelled by collapse controller: "
"""What the reason of every branch that the controller stops begins with."""


class CollapsePolicy(Record):
    """The thresholds of the collapse controller; docs/design/collapse.md tells how the defaults were chosen."""

    breaks: Literal["standing", "every"] = Field(
        "standing",
        description="Which failing checks are invariant breaks: those that a branch moves on from without an edit,"
        " or every sample that fails.",
    )
    max_invariant_breaks: int = Field(8, ge=1, le=1000, description="Breaks in a row after which a branch is stopped.")
    max_consecutive_compile_failures: int = Field(
        8, ge=1, le=1000, description="Failing static checks in a row, counted as breaks are."
    )
    max_consecutive_resource_failures: int = Field(
        2, ge=1, le=1000, description="Unhealthy samples of a branch's pod in a row."
    )
    max_consecutive_low_scores: int = Field(
        10, ge=1, le=1000, description="Low scores in a row, counted as breaks are, after which a branch is pruned."
    )
    min_score: float = Field(0.35, ge=0, le=1, description="Only branches that score less are pruned.")
    min_gap: float = Field(0.15, ge=0, le=1, description="How far behind the best a pruned branch must be.")
    min_resource_health: float = Field(0.35, ge=0, le=1, description="Health of a pod below which it counts as bad.")

    @classmethod
    def seed(cls) -> CollapsePolicy:
        """The thresholds of the executor that swarmq re-creates: every failing sample counts, the first one kills."""
        return cls(
            breaks="every",
            max_invariant_breaks=2,
            max_consecutive_compile_failures=1,
            max_consecutive_resource_failures=2,
            max_consecutive_low_scores=1,
            min_score=0.30,
            min_gap=0.15,
            min_resource_health=0.35,
        )


class Vector(Record):
    """What a branch's score is made of. All but ``breaks`` are 0…1; higher is better, but for ``conflict_risk``."""

    compile: float = Field(ge=0, le=1)
    tests: float = Field(ge=0, le=1)
    contract: float = Field(ge=0, le=1)
    conflict_risk: float = Field(ge=0, le=1)
    velocity: float = Field(ge=0, le=1)
    resources: float = Field(ge=0, le=1)
    breaks: int = Field(0, ge=0)


class Decision(StrEnum):
    """What a look decided on a branch."""

    KEPT = "kept"
    PROMOTED = "promoted"
    """The best of those that compete."""
    SPARED = "spared"
    """Over a threshold, but the last one of those that compete."""
    KILLED = "killed"
    """Over one of the health thresholds."""
    PRUNED = "pruned"
    """The worst of those that compete, and too far behind."""


class Evaluation(Record):
    """One branch in one look. ``group``: who competes with it."""

    branch_id: str
    group: str
    vector: Vector
    score: float = Field(ge=0, le=1)
    compile_failures: int = Field(0, ge=0)
    resource_failures: int = Field(0, ge=0)
    low_scores: int = Field(0, ge=0)
    decision: Decision = Decision.KEPT
    reason: str = Field("", description="Which threshold it is over, for a branch that is stopped or spared.")

    @property
    def mark(self) -> str:
        """Equal for evaluations that a reader would not tell apart."""
        counts = (self.vector.breaks, self.compile_failures, self.resource_failures, self.low_scores)
        return f"{self.score:.2f} {self.decision} {counts}"


class Tally(Record):
    """What the controller remembers of a branch from one look to the next."""

    observed_at: float = Field(0.0, description="Of the last observation that was counted.")
    changed_at: float = Field(0.0, description="When its files had last changed.")
    steps: int = Field(0, ge=0, description="Its steps when a break was last counted.")
    compile_failures: int = Field(0, ge=0)
    pod_seen_at: float = Field(-1.0, description="What of its pod was last counted.")
    signals: int = Field(0, ge=0, description="Of its pod, in a row.")
    resource_failures: int = Field(0, ge=0)
    low_scores: int = Field(0, ge=0)
    low_steps: int = Field(-1, ge=-1, description="Its steps when a low score was last counted.")

    @property
    def breaks(self) -> int:
        return self.compile_failures + self.signals


class CollapseState(Record):
    """What the controller remembers of a swarm. ``promoted``: group -> branch."""

    schema_version: Literal[1] = SCHEMA_VERSION
    at: float = 0.0
    tallies: dict[str, Tally] = Field(default_factory=dict)
    promoted: dict[str, str] = Field(default_factory=dict)
    evaluated: dict[str, str] = Field(default_factory=dict, description="branch -> mark of its last evaluation.")


class Kill(Record):
    """A branch to be stopped. ``reason`` names the threshold and by how much it was passed."""

    branch_id: str
    reason: str
    score: float


class ScoreEntry(Record):
    """One look, as ``swarmq collapse explain`` reads it: the evaluations that differ from the look before."""

    v: Literal[1] = SCHEMA_VERSION
    at: float
    scope: Literal["race", "stage"]
    policy: CollapsePolicy
    evaluations: tuple[Evaluation, ...]
