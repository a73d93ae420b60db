"""Waits that are not an agent's own doing: for a permit, and before a model call is made again."""

from __future__ import annotations

from collections.abc import Callable

from swarmq.agent.assignment import Parked
from swarmq.agent.narration import Narrator
from swarmq.agent.ports import MODEL_CALL, RATE_LIMITED, RETRYING, Journal, Leaving
from swarmq.agent.timing import Clock, Deadlines
from swarmq.errors import ModelError
from swarmq.models.events import Event
from swarmq.providers.limiter import report_of


class Waits:
    """Tells of waits, counts them, and leaves them out of the branch's time."""

    def __init__(
        self,
        journal: Journal,
        narrator: Narrator,
        deadlines: Deadlines,
        clock: Clock,
        note: Callable[[Event], None],
        leaving: Leaving,
    ) -> None:
        self._journal, self._narrator, self._deadlines, self._clock = journal, narrator, deadlines, clock
        self._note, self._leaving = note, leaving
        self.retries, self.rate_limit_seconds = 0, 0.0

    async def before_retry(self, error: ModelError, attempt: int, wait_seconds: float) -> None:
        if self._leaving.asked:
            raise Parked
        self.retries += 1
        self._deadlines.waited(wait_seconds)
        limited = report_of(error).limited
        if limited:
            self.rate_limit_seconds += wait_seconds
        self._note(self._narrator.retry(error, attempt, wait_seconds))
        await self._journal.tell(RATE_LIMITED if limited else RETRYING)
        await self._clock.sleep(wait_seconds)
        await self._journal.tell(MODEL_CALL)

    async def for_permit(self, endpoint: str, reason: str) -> None:
        await self._journal.tell(RATE_LIMITED, self._narrator.rate_limited(endpoint, reason))

    async def had_permit(self, seconds: float) -> None:
        self._deadlines.waited(seconds)
        self.rate_limit_seconds += seconds
        await self._journal.tell(MODEL_CALL)
