"""Clocks, and how long a branch may still run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Time as the loop sees it; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    jitter: Callable[[], float] = random.random
    """From 0 up to 1."""


class Deadlines:
    """Idle and total time-out. Waits before retries do not count; what earlier holders spent does."""

    def __init__(
        self, clock: Clock, *, step_timeout_seconds: float, total_timeout_seconds: float, spent_seconds: float = 0.0
    ) -> None:
        self._monotonic = clock.monotonic
        self._idle_seconds, self._total_seconds = step_timeout_seconds, total_timeout_seconds
        self._waited_seconds = -spent_seconds
        self._started = clock.monotonic()
        self._stepped_seconds = self.working_seconds()

    def working_seconds(self) -> float:
        """Time of the branch so far, waits left out."""
        return self._monotonic() - self._started - self._waited_seconds

    def stepped(self) -> None:
        """A step is finished: the idle time starts anew."""
        self._stepped_seconds = self.working_seconds()

    def waited(self, seconds: float) -> None:
        """Leave out a wait that is not the branch's own doing; may be told before it."""
        self._waited_seconds += seconds

    def left_seconds(self) -> float:
        """Until the nearer of the two; 0 or less when it has passed."""
        return min(self._stepped_seconds + self._idle_seconds, self._total_seconds) - self.working_seconds()

    def nearest(self) -> tuple[str, str]:
        """The option that ends the branch first, and what to say when it does."""
        if self._total_seconds <= self._stepped_seconds + self._idle_seconds:
            return "subagent_timeout_seconds", f"the agent ran for {self._total_seconds:g} s without finishing"
        return "step_timeout_seconds", f"no step finished within {self._idle_seconds:g} s"
