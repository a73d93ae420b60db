"""One process of the stack: started in a session of its own, its output in a log file, restarted with back-off."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarmq.devstack.plan import Backoff
from swarmq.devstack.record import ProcessRecord, describe

LOG_BYTES = 10_000_000
"""A log larger than this is set aside (one generation) when its process starts."""
_TAIL_LINES = 3
_TAIL_CHARACTERS = 600


class Child:
    """A command that is to be running. Times are of the monotonic clock."""

    def __init__(self, name: str, command: Sequence[str], log: Path, cwd: Path, backoff: Backoff) -> None:
        self.name = name
        self.log = log
        self.record: ProcessRecord | None = None
        self.due_at: float | None = time.monotonic()
        self._command = list(command)
        self._cwd = cwd
        self._backoff = backoff
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._log_start_bytes = 0
        self._quick_deaths = 0
        self._replacing = False
        self._starts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, environment: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
        """Start it. OSError (no such program, disk full) is for the caller."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=dict(environment),
                pass_fds=pass_fds,
                start_new_session=True,  # a signal to the terminal's or the supervisor's group must not reach it
            )
        self.due_at = None
        self._started_at = time.monotonic()
        self.record = describe(self.name, self._process.pid, self.log, restarts=self._starts)
        self._starts += 1

    def replace(self) -> None:
        """Stop it, so that it is started again at once and without counting as a death."""
        if self._process is not None:
            self._replacing = True
            self._process.terminate()

    @property
    def replacing(self) -> bool:
        return self._replacing

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def ended(self, exit_code: int) -> str | None:
        """Note its end and when to start it again; the reason to give up after too many quick deaths in a row."""
        assert self._process is not None
        self._process.returncode = exit_code  # the supervisor reaped it, not Popen
        self._process = self.record = None
        now = time.monotonic()
        if self._replacing:
            self._replacing, self.due_at = False, now
            return None
        quick = now - self._started_at < self._backoff.quick_seconds
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        self.due_at = now + self._backoff.wait_seconds(self._quick_deaths)
        if self._quick_deaths >= self._backoff.quick_deaths:
            return f"{self.name} ended at once {self._quick_deaths} times ({_exit(exit_code)}): {self.last_words()}"
        return None

    def last_words(self) -> str:
        """The last lines of what it wrote since its start, as one line, and where the rest is."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(self._log_start_bytes, size - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError as error:
            lines = [f"no log ({error.strerror})"]
        tail = " | ".join(line.strip() for line in [line for line in lines if line.strip()][-_TAIL_LINES:])
        if not tail:
            tail = "it wrote nothing" if os.statvfs(self.log.parent).f_bavail else "the disk is full"
        return f"{tail[-_TAIL_CHARACTERS:]} (log: {self.log})"


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
