"""Races: which candidates a subtask has, and whose work becomes the subtask's (S10). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from swarmq.models.branch import BranchRecord, BranchState, Exit
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.models.swarm import CandidateResult
from swarmq.orchestrator.approaches import APPROACHES

Score = Callable[[BranchRecord], float | None]
"""How well a branch did, in 0 ... 1; None where nothing is known of it."""


@dataclass(frozen=True)
class Candidate:
    """One branch of a subtask. ``number`` is 0 where there is no race."""

    branch_id: str
    number: int = 0
    approach: str = ""
    model: str | None = None


def candidates(subtask: Subtask, options: SwarmOptions) -> tuple[Candidate, ...]:
    """The branches of a subtask, one or those of its race. A swarm's own number is for subtasks that edit files."""
    swarms = options.candidates if subtask.kind is Kind.EDIT else 1
    count = subtask.candidates if subtask.candidates is not None else swarms
    models = subtask.models or options.candidate_models
    if count == 1:
        return (Candidate(subtask.id, model=subtask.models[0] if subtask.models else None),)
    approaches = (*subtask.approaches, *(one for one in APPROACHES if one not in subtask.approaches))
    return tuple(
        Candidate(
            branch_id=subtask.id if number == 1 else f"{subtask.id}.{number}",
            number=number,
            approach=approaches[number - 1],
            model=models[(number - 1) % len(models)] if models else None,
        )
        for number in range(1, count + 1)
    )


def models_of(subtasks: Iterable[Subtask], options: SwarmOptions) -> set[str]:
    """Models that candidates name, besides the swarm's own."""
    return {one.model for subtask in subtasks for one in candidates(subtask, options) if one.model is not None}


def promoted(branches: Sequence[BranchRecord], winner: str | None, score: Score) -> BranchRecord | None:
    """The branch whose work is the subtask's; None while that is open.

    ``branches`` are the subtask's without resolvers, ``winner`` is the race's where it is decided. Else all must have
    ended: the best score among those that completed, and if none did, the one that came furthest, for its error.
    """
    if winner is not None:
        return next((one for one in branches if one.spec.id == winner and one.state is BranchState.DONE), None)
    if not branches or any(one.state is not BranchState.DONE for one in branches):
        return None
    completed = [one for one in branches if one.outcome is not None and one.outcome.success]
    if completed:
        return min(completed, key=lambda one: (-_known(score(one)), one.finished_at, one.spec.candidate))
    return min(branches, key=_how_far)


def _known(score: float | None) -> float:
    return -1.0 if score is None else score


def _how_far(branch: BranchRecord) -> tuple[bool, int, int]:
    outcome = branch.outcome
    cancelled = outcome is None or outcome.exit is Exit.CANCELLED
    return cancelled, -(outcome.steps if outcome is not None else 0), branch.spec.candidate


def candidate_results(branches: Sequence[BranchRecord], promoted_id: str, score: Score) -> tuple[CandidateResult, ...]:
    """What became of each candidate, in order; none without a race. Those that still clean up count as cancelled."""
    return tuple(
        CandidateResult(
            branch_id=one.spec.id,
            promoted=one.spec.id == promoted_id,
            exit=one.outcome.exit if one.outcome is not None else Exit.CANCELLED,
            model=one.spec.model,
            approach=one.spec.approach,
            score=score(one),
            verified=one.outcome.verify.passed if one.outcome is not None and one.outcome.verify is not None else None,
            steps=one.outcome.steps if one.outcome is not None else one.observation.steps if one.observation else 0,
            usage=one.outcome.usage if one.outcome is not None else Usage(),
            cost_usd=one.outcome.cost_usd if one.outcome is not None else None,
            duration_seconds=one.outcome.duration_seconds if one.outcome is not None else 0.0,
            error=one.outcome.error if one.outcome is not None else one.cancel_reason,
        )
        for one in sorted(branches, key=lambda one: one.spec.candidate)
        if one.spec.candidate
    )
