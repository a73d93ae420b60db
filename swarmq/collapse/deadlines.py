"""Races that are over by their deadline, while candidates still run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.collapse.scoring import best_candidate
from swarmq.models.branch import BranchRecord, BranchState


def overdue_winner(candidates: Sequence[BranchRecord], deadline_seconds: float | None, now: float) -> str | None:
    """Who wins a race whose deadline is over, where others are to be stopped for it; None where there is nothing to do.

    That is the best of those that have completed. While none has, the race goes on, and the first to complete wins. The
    deadline counts from the first candidate's start.
    """
    if not any(one.state is not BranchState.DONE and one.cancel_reason is None for one in candidates):
        return None
    started = [one.started_at for one in candidates if one.started_at > 0]
    if deadline_seconds is None or not started or now < min(started) + deadline_seconds:
        return None
    completed = [one for one in candidates if one.outcome is not None and one.outcome.success]
    return best_candidate(completed) if completed else None
