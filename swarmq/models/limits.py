"""What a model endpoint's limits are worked out from: the call that asks for a permit, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a call's end says of its endpoint."""

    ANSWERED = "answered"
    LIMITED = "limited"
    """429: too many requests or tokens in a time, or too many at once."""
    OVERLOADED = "overloaded"
    """503, 529: too much at once, whoever asked."""
    FAILED = "failed"
    """Anything else: no word about limits."""
    UNUSED = "unused"
    """The call was never sent."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a server says of one of its allowances. ``limit`` 0: not told."""

    limit: float
    remaining: float
    reset_seconds: float
    """Until a token bucket is full again, or a window ends."""


@dataclass(frozen=True, slots=True)
class RateSigns:
    """What an answer's headers say of the endpoint's limits; None where they do not, or say nonsense."""

    requests: Bucket | None = None
    tokens: Bucket | None = None


NO_SIGNS = RateSigns()


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of one endpoint, as configured; None: to be learned. All are for the whole fleet."""

    max_concurrency: int = 200
    initial_concurrency: int = 20
    min_spacing_ms: float = 0.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A call that asks for a permit; ``tokens`` is what it is thought to take."""

    endpoint: str
    rates: Rates
    swarm_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a call ended. ``tokens`` are those that the endpoint counted, 0 where nobody knows."""

    verdict: Verdict
    retry_after_seconds: float = 0.0
    signs: RateSigns = NO_SIGNS
    tokens: int = 0

    @property
    def limited(self) -> bool:
        """Whether the endpoint asks for less, now or from everybody."""
        return self.verdict in (Verdict.LIMITED, Verdict.OVERLOADED)
