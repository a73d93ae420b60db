"""What stopping the losers of a race has saved: an estimate. Pure.

A candidate that was stopped would have gone on for at least some of the steps that it was short of those of the
candidates that came to an end, at what a step had cost it so far. So it says nothing of one that had taken more steps
than they, nothing of a race that nobody finished, and nothing of branches that do not race; and since a conversation's
steps get dearer as it grows, it rather says too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from swarmq.models.branch import Exit
from swarmq.models.spent import Spent, total
from swarmq.models.swarm import CandidateResult


def saved_by_stopping(candidates: Sequence[CandidateResult]) -> Spent:
    """Over the candidates of one race that were stopped, of what they would have used."""
    ended = [one for one in candidates if one.exit is Exit.COMPLETED and one.steps > 0]
    if not ended:
        return Spent()
    expected_steps = fmean(one.steps for one in ended)
    typical = total(_spent(one) for one in ended)
    stopped = [one for one in candidates if one.exit is Exit.CANCELLED and not one.promoted]
    return total(_missed(_spent(one), typical, expected_steps) for one in stopped)


def _missed(own: Spent, typical: Spent, expected_steps: float) -> Spent:
    steps = round(max(0.0, expected_steps - own.steps))
    # One that had not begun, or whose bill is not there yet, would have been like the others.
    per = own if own.steps and own.tokens else typical
    cost_usd = None if per.cost_usd is None else per.cost_usd / per.steps * steps
    return Spent(
        steps=steps,
        tokens=round(per.tokens / per.steps * steps),
        cost_usd=cost_usd if steps else 0.0,
        seconds=per.seconds / per.steps * steps,
    )


def _spent(one: CandidateResult) -> Spent:
    tokens = one.usage.input_tokens + one.usage.output_tokens
    return Spent(steps=one.steps, tokens=tokens, cost_usd=one.cost_usd, seconds=one.duration_seconds)
