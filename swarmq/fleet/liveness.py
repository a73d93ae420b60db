"""Files that say that a process lives, for probes that cost next to nothing: ``find`` looks at their age.

``alive`` is about this process alone: an outage of Redis is no reason to restart workers. ``ready`` is about its work:
it takes messages and reaches Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmq.fleet.beat import SteadyScheduler
from swarmq.settings import Settings

SILENT_SECONDS = 300.0
"""A main thread that says nothing for this long, though Redis answers others, hangs: Celery's heartbeat is 2 s."""
LATE_SECONDS = 10.0


class Probes:
    """Writes both files; does nothing where ``probe_dir`` is not set. ``heard`` may be called from any thread."""

    def __init__(
        self, directory: Path | None, heartbeat_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._heartbeat_seconds, self._clock = directory, heartbeat_seconds, clock
        self._heard_at = clock()
        self._reached = False

    @classmethod
    def of(cls, settings: Settings) -> Probes:
        return cls(settings.probe_dir, settings.heartbeat_seconds)

    def heard(self, *_: Any, **__: Any) -> None:
        """Celery's main thread has sent a heartbeat by the broker connection."""
        self._heard_at = self._clock()

    def alive(self) -> None:
        """The event loop turns. Says so unless the main thread hangs, which an outage of Redis is not."""
        if not self._reached or self._silent_seconds < SILENT_SECONDS:
            self._touch("alive")

    def ready(self) -> None:
        """The records have answered. Says so if messages come as well."""
        self._reached = True
        if self._silent_seconds < max(LATE_SECONDS, 3 * self._heartbeat_seconds):
            self._touch("ready")

    def cut_off(self) -> None:
        """The records did not answer."""
        self._reached = False

    def gone(self) -> None:
        """The process ends."""
        if self._directory is not None:
            for name in ("ready", "alive"):
                (self._directory / name).unlink(missing_ok=True)

    @property
    def _silent_seconds(self) -> float:
        return self._clock() - self._heard_at

    def _touch(self, name: str) -> None:
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._directory / name).touch()


class TouchingScheduler(SteadyScheduler):
    """Beat's scheduler, which says with each turn that it turns."""

    probes = Probes(None, 0)

    def tick(self) -> float:
        waits_seconds = super().tick()
        self.probes.heard()
        self.probes.alive()
        return waits_seconds
