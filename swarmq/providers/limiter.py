"""Permits for model calls: what a conversation asks for before each call, and tells after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from swarmq.errors import ModelError, PermanentModelError
from swarmq.models.limits import NO_SIGNS, RateSigns, Report, Verdict, Wish

LIMITED_STATUS = 429
OVERLOADED_STATUSES = {503, 529}

OnWait = Callable[[str], Awaitable[None]]
"""Called with the reason once a wait is long enough to be shown."""


class Permit(Protocol):
    """One call's place among those in flight."""

    @property
    def waited_seconds(self) -> float:
        """How long the permit was waited for; 0 where it was had at once."""

    def release(self, report: Report) -> None:
        """Give it back, with what was learned. Returns at once and never fails; a second time means nothing."""


class Limiter(Protocol):
    """The limits of all endpoints."""

    async def acquire(self, wish: Wish, on_wait: OnWait) -> Permit:
        """Wait for a permit. Cancelling gives up the place in the queue."""


async def _silent(endpoint: str, reason: str) -> None:
    return


async def _uncounted(seconds: float) -> None:
    return


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a conversation is held: permits go round by swarm, and waits are told.

    ``on_wait`` gets the endpoint and the reason of a wait that shows, ``on_waited`` the seconds of each, afterwards.
    """

    swarm_id: str = ""
    on_wait: Callable[[str, str], Awaitable[None]] = _silent
    on_waited: Callable[[float], Awaitable[None]] = _uncounted


NOBODY = Caller()


class _Free:
    waited_seconds = 0.0

    def release(self, report: Report) -> None:
        return


class Unlimited:
    """For a process that makes a call or two by itself, and for servers within it."""

    async def acquire(self, wish: Wish, on_wait: OnWait) -> Permit:
        return _Free()


def report_of(error: ModelError, signs: RateSigns = NO_SIGNS) -> Report:
    """What a failed call says of its endpoint. Spent money is no rate: it does not come back by going slower."""
    verdict = Verdict.FAILED
    if not isinstance(error, PermanentModelError):
        if error.status == LIMITED_STATUS:
            verdict = Verdict.LIMITED
        elif error.status in OVERLOADED_STATUSES:
            verdict = Verdict.OVERLOADED
    return Report(verdict, error.retry_after_seconds, signs)
