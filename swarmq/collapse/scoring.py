"""How well a branch does, from 0 to 1 (S10). Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from swarmq.models.branch import BranchRecord, Observation
from swarmq.models.collapse import Vector
from swarmq.models.pods import PodHealth

COMPILE, TESTS, CONTRACT, CONFLICT, VELOCITY, RESOURCES = 0.29, 0.14, 0.18, 0.14, 0.08, 0.17
"""The weights. Inside of a race there is no conflict risk, and the others share its weight."""
BREAK_PENALTY, MOST_PENALTY = 0.1, 0.6
UNVERIFIED: Final = 0.6
"""What counts for tests while verify has not run."""
FULL_VELOCITY_LINES_PER_SECOND = 20.0


def vector(
    observation: Observation,
    *,
    elapsed_seconds: float,
    others: Collection[str] = (),
    health: PodHealth | None = None,
    breaks: int = 0,
) -> Vector:
    """What the score is made of. ``others``: files that branches changed with whose work it may conflict.

    Checks that say nothing count as passed, a pod of which nothing is known as healthy.
    """
    compiles = observation.checks is not False
    risk = conflict_risk(observation.files, others)
    return Vector(
        compile=float(compiles),
        tests=UNVERIFIED if observation.verified is None else float(observation.verified),
        contract=1 - risk if compiles else 0.0,
        conflict_risk=risk,
        velocity=min(1.0, observation.changed_lines / max(elapsed_seconds, 1.0) / FULL_VELOCITY_LINES_PER_SECOND),
        resources=1.0 if health is None else health.score,
        breaks=breaks,
    )


def conflict_risk(own: Collection[str], others: Collection[str]) -> float:
    """Shared changed files over own ones."""
    files = set(own)
    return len(files.intersection(others)) / len(files) if files else 0.0


def score(of: Vector, *, racing: bool) -> float:
    """The weighted sum less the penalty, in 0…1. ``racing``: without the conflict risk, and renormalised."""
    parts = COMPILE * of.compile + TESTS * of.tests + CONTRACT * of.contract
    parts += VELOCITY * of.velocity + RESOURCES * of.resources
    if racing:
        parts /= 1 - CONFLICT
    else:
        parts += CONFLICT * (1 - of.conflict_risk)
    penalty = min(MOST_PENALTY, BREAK_PENALTY * of.breaks)
    return min(1.0, max(0.0, parts - penalty))


def final_score(branch: BranchRecord) -> float | None:
    """What a branch of a race has come to, by its last observation; None for one that never told any.

    The outcome's own verifying counts before what the observation says of it.
    """
    observation, outcome = branch.observation, branch.outcome
    if observation is None:
        return None
    if outcome is not None and outcome.verify is not None:
        observation = observation.model_copy(update={"verified": outcome.verify.passed})
    ended_at = branch.finished_at or observation.at
    return score(vector(observation, elapsed_seconds=ended_at - branch.started_at), racing=True)


def best_candidate(branches: Sequence[BranchRecord]) -> str:
    """The id of the branch of a race whose work is the best; ValueError where there is none.

    Who completed goes before who did not, then the score decides, then fewer tokens, then the lower number.
    """

    def rank(branch: BranchRecord) -> tuple[bool, float, int, int]:
        outcome, found = branch.outcome, final_score(branch)
        tokens = 0 if outcome is None else outcome.usage.input_tokens + outcome.usage.output_tokens
        completed = outcome is not None and outcome.success
        return completed, -1.0 if found is None else found, -tokens, -branch.spec.candidate

    return max(branches, key=lambda branch: (rank(branch), branch.spec.id)).spec.id
