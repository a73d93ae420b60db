"""What was used and what was saved, in a few words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmq.cli.render import count, duration, usd

if TYPE_CHECKING:
    from swarmq.models.spent import Spent
    from swarmq.models.swarm import Baseline, SwarmStats


def saved_by(stats: SwarmStats) -> tuple[tuple[str, Spent], ...]:
    """What was not used, and why; what collapse has saved is an estimate (design/figures.md)."""
    return (("saved by cache", stats.saved_by_cache), ("saved by collapse", stats.saved_by_collapse))


def saved_text(saved: Spent) -> str:
    return f"{spent_text(saved)}, {duration(saved.seconds)} of work"


def spent_text(spent: Spent | Baseline) -> str:
    """Steps, tokens and, where it is known, money."""
    cost = "" if spent.cost_usd is None else f", {usd(spent.cost_usd)}"
    return f"{count(spent.steps, 'step')}, {count(spent.tokens, 'token')}{cost}"
