"""When to call a model again. A pure decision; whoever asks does the waiting."""

from __future__ import annotations

from dataclasses import dataclass

from swarmq.errors import ModelError, TransientModelError

MAX_RETRY_AFTER_SECONDS = 600.0
"""A server that asks for more than this is as good as closed."""


@dataclass(frozen=True, slots=True)
class Retry:
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter, and the server's Retry-After as a floor."""

    max_retries: int
    base_seconds: float = 0.5
    max_seconds: float = 30.0

    def decide(self, error: ModelError, attempt: int, jitter: float) -> Retry | GiveUp:
        """``attempt`` counts the retries of this call made so far, from 0; ``jitter`` is random in 0…1."""
        if not isinstance(error, TransientModelError):
            return GiveUp(str(error))
        if attempt >= self.max_retries:
            return GiveUp(f"{error} (after {attempt} {'retry' if attempt == 1 else 'retries'})")
        floor_seconds = error.retry_after_seconds
        if floor_seconds > MAX_RETRY_AFTER_SECONDS:
            return GiveUp(f"{error} (the server asks to wait {floor_seconds:.0f} s)")
        backoff_seconds = min(self.max_seconds, self.base_seconds * 2.0 ** min(attempt, 64))
        # Spread above the floor too: all who were told the same moment would come back at once.
        return Retry(max(backoff_seconds / 2, floor_seconds) + jitter * backoff_seconds / 2)
