"""Files that say that a process lives, for probes that cost next to nothing: ``find`` looks at their age.

``alive`` is about this process alone: an outage of Redis is no reason to restart workers. ``ready`` is about its work:
it takes messages and reaches Redis.

A process that starts has no loop yet that could say so: Celery waits for its broker first, for as long as that is away.
Until then a thread says that it lives, which is also why what an earlier process left has to go: the directory of a pod
outlives its containers, and one that ran out of memory has removed nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from swarmq.settings import Settings

log = structlog.get_logger()
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
        self._started = threading.Event()

    @classmethod
    def of(cls, settings: Settings) -> Probes:
        return cls(settings.probe_dir, settings.heartbeat_seconds)

    def starting(self) -> None:
        """The process starts: from now on a thread says that it lives, until ``started``."""
        self.gone()
        if self._directory is not None:
            threading.Thread(target=self._say_while_starting, name="probes", daemon=True).start()

    def answered(self) -> None:
        """Redis has answered for the first time: who does not get to work now hangs, and is silent from here on."""
        self._heard_at = self._clock()
        self._reached = True

    def started(self) -> None:
        """The process' own loop says from now on that it lives, so that it shows if that one hangs."""
        self._started.set()

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

    def _say_while_starting(self) -> None:
        self.alive()
        while not self._started.wait(self._heartbeat_seconds):
            self.alive()

    @property
    def _silent_seconds(self) -> float:
        return self._clock() - self._heard_at

    def _touch(self, name: str) -> None:
        if self._directory is None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._directory / name).touch()
        except OSError as error:  # whoever called goes on; the probe sees the file's age
            log.warning("probe not written", error=str(error))
