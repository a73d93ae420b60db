"""What work has used, and what it was spared."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from swarmq.models.base import Record


class Spent(Record):
    """Steps, tokens (input and output), money and working time of one branch, or of several together."""

    steps: int = 0
    tokens: int = 0
    cost_usd: float | None = Field(0.0, description="None where a price is not known.")
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Spent(
            steps=self.steps + other.steps,
            tokens=self.tokens + other.tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            seconds=self.seconds + other.seconds,
        )


def total(parts: Iterable[Spent]) -> Spent:
    """All of them together; its cost is not known where one of theirs is not."""
    return sum(parts, Spent())
