"""How long a fleet waited for a processor: what a loaded machine adds to a recovery, whatever is being tested."""

from __future__ import annotations

import bisect
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.25
PRESSURE = Path("/proc/pressure/cpu")
NANOSECONDS, MICROSECONDS = 1e-9, 1e-6


@dataclass(frozen=True)
class Recovery:
    """Seconds from a fault to the next progress of all that it hit: by the clock, and without waits for a processor."""

    seconds: float
    corrected_seconds: float


class Kernel:
    """What Linux tells; nothing elsewhere."""

    def now(self) -> float:
        return time.monotonic()

    def pressure_seconds(self) -> float:
        """The time during which some thread of the machine had no processor; 0 where it is not kept."""
        try:
            some = PRESSURE.read_text().split("\n")[0]
        except OSError:
            return 0.0
        return int(some.rpartition("total=")[2]) * MICROSECONDS

    def waits(self, pids: Iterable[int]) -> dict[tuple[int, str], float]:
        """Each thread of the processes, and of what their main threads have started, with its seconds on run queues."""
        found = [pid for parent in pids for pid in (parent, *children(parent))]
        return {thread: seconds for pid in found for thread, seconds in thread_waits(pid)}


class ProcessorWaits:
    """Samples, several times a second, the waits of the processes that ``pids`` names at that moment.

    A recovery goes from process to process, so that it waited for no longer than (a) some thread of the fleet did,
    and (b) some thread of the machine did: the first is the sum over all threads, the second what the kernel keeps as
    pressure. Of each sample the least counts. A fleet that stands still waits for no processor, and is excused nothing.
    Where the kernel keeps none of this, nothing is excused.
    """

    def __init__(
        self, pids: Callable[[], Iterable[int]], kernel: Kernel | None = None, sample_seconds: float = SAMPLE_SECONDS
    ) -> None:
        self._pids, self._kernel = pids, kernel or Kernel()
        self._sample_seconds = sample_seconds
        self._ended, self._sampling = threading.Event(), threading.Lock()
        self._samples = [(self._kernel.now(), 0.0)]
        self._threads: dict[tuple[int, str], float] = {}
        self._fleet_seconds()
        self._pressure = self._kernel.pressure_seconds()
        self._thread = threading.Thread(target=self._run, name="processor-waits", daemon=True)
        self._thread.start()

    def recovery(self, since: float, until: float, by_the_clock_seconds: float) -> Recovery:
        """Between two times of ``time.monotonic``. What waits by the clock first (a lease) waits for no processor."""
        self._sample()
        waited = self._at(until) - self._at(min(since + by_the_clock_seconds, until))
        return Recovery(until - since, until - since - waited)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._sample_seconds):
            self._sample()

    def _sample(self) -> None:
        with self._sampling:
            before, total = self._samples[-1]
            fleet, pressure, now = self._fleet_seconds(), self._kernel.pressure_seconds(), self._kernel.now()
            waited = min(fleet, pressure - self._pressure, now - before)
            self._pressure = pressure
            self._samples.append((now, total + waited))

    def _fleet_seconds(self) -> float:
        """What all threads of the fleet have waited since the last look; one that is new, since it began."""
        seen = self._kernel.waits(list(self._pids()))
        before, self._threads = self._threads, seen
        return sum(seconds - before.get(thread, 0.0) for thread, seconds in seen.items())

    def _at(self, moment: float) -> float:
        """All waits until that moment, as of the first sample that is not before it."""
        found = bisect.bisect_left(self._samples, (moment, 0.0))
        return self._samples[min(found, len(self._samples) - 1)][1]


def children(pid: int) -> list[int]:
    """What its main thread has started: the processes of a prefork pool."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def thread_waits(pid: int) -> Iterator[tuple[tuple[int, str], float]]:
    """Each thread of the process with its seconds on a run queue."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            # It may have ended meanwhile. No pathlib here: this runs often, for all threads of the fleet.
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
                yield (pid, task), int(file.read().split()[1]) * NANOSECONDS
