"""Beat's schedule, kept by a clock that nobody sets.

Celery's own compares wall clock times: after one is set back by an hour, by hand or with a virtual machine's snapshot,
it sends nothing for that hour, and nobody would look after the swarms meanwhile.
"""

from __future__ import annotations

import time
from typing import Any

from celery.beat import Scheduler

from swarmq.fleet.liveness import Probes

FIRST_SECONDS = 60.0
"""What is due every hour comes this soon after the start: an embedded stack that is idle does not run for an hour."""


class SteadyScheduler(Scheduler):  # type: ignore[misc]
    """Sends each entry once in its interval, and first before that; which is all that a schedule of swarmq's has."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._due: dict[str, float] = {}
        super().__init__(*arguments, **options)

    def tick(self) -> float:
        """Send what is due; seconds until the next look."""
        for name, entry in self.schedule.items():
            interval_seconds, now = entry.schedule.seconds, time.monotonic()
            if self._due.setdefault(name, now + min(interval_seconds, FIRST_SECONDS)) <= now:
                self._due[name] = now + interval_seconds
                self.apply_entry(entry, producer=self.producer)
        nearest = min(self._due.values(), default=float("inf")) - time.monotonic()
        return float(min(max(nearest, 0.0), self.max_interval))


class TouchingScheduler(SteadyScheduler):
    """Says with each turn that it turns."""

    probes = Probes(None, 0)

    def tick(self) -> float:
        waits_seconds = super().tick()
        self.turns()
        return waits_seconds

    @classmethod
    def turns(cls, *_: Any) -> None:
        """Also called with each try to send: where Redis is away, those of one turn take minutes."""
        cls.probes.heard()
        cls.probes.alive()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """The first comes when the producer has its connection, for which the turn before it may wait for hours."""
        self.probes.started()
        super().apply_entry(entry, producer)
