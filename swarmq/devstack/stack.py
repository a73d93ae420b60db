"""The embedded stack as its clients see it: make sure that it runs, stop it, ask how it does.

One lock decides who starts it. It is taken by the starting client, inherited by the supervisor, its guard and Valkey,
and free again when the last of them has ended: at no moment can two stacks share one data directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from swarmq.devstack import control, valkey
from swarmq.devstack.guard import end_leftovers
from swarmq.devstack.layout import (
    WAY_OUT,
    Layout,
    check_private,
    prepare_runtime,
    prepare_state,
    read_password,
    redis_url,
    state_fault,
    write_private,
)
from swarmq.devstack.plan import Backoff, Plan
from swarmq.devstack.record import StackRecord, find, read_record
from swarmq.devstack.status import StackInfo, StackStatus, look
from swarmq.devstack.variables import client_variables, handover_seconds, worker_variables
from swarmq.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from swarmq.settings import Settings

QUEUES = ("control", "integrate", "agents")
DELAYS_SECONDS = {"integrate": 0.5, "beat": 2.0}
"""A swarm's first step needs neither: until then the cores belong to the two that it needs."""
GRACE_MARGIN_SECONDS = 5.0
"""A worker needs this to end itself, on top of what it gives its branches."""
START_SECONDS = 130.0
_POLL_SECONDS = 0.02
_GREETING_SECONDS = 5.0


def worker_commands() -> dict[str, list[str]]:
    """The processes of the stack besides Valkey. ``-P``: the directory they run in is no place to import from."""
    swarmq = [sys.executable, "-P", "-m", "swarmq"]
    return {queue: [*swarmq, "worker", "--queue", queue] for queue in QUEUES} | {"beat": [*swarmq, "beat"]}


class Stack:
    """The stack of one state directory. The keywords are for tests: stand-ins for the workers, shorter times."""

    def __init__(
        self,
        settings: Settings,
        *,
        commands: Mapping[str, Sequence[str]] | None = None,
        backoff: Backoff | None = None,
        grace_seconds: float | None = None,
        delays_seconds: Mapping[str, float] | None = None,
    ) -> None:
        self._settings = settings
        self._commands = {name: list(words) for name, words in (commands or worker_commands()).items()}
        self._backoff = backoff or Backoff()
        self._delays_seconds = DELAYS_SECONDS if delays_seconds is None else delays_seconds
        branches_seconds = handover_seconds(settings) + settings.shutdown_seconds
        self._grace_seconds = grace_seconds or branches_seconds + GRACE_MARGIN_SECONDS
        self._layout = Layout.of(settings)

    def ensure(self, *, bring_variables: bool = False) -> StackInfo:
        """Start the stack unless it runs; returns when Valkey answers. Safe to call from many processes at once.

        With ``bring_variables`` workers that run learn this client's keys and endpoints, by being restarted.
        """
        deadline = time.monotonic() + START_SECONDS + 2 * self._grace_seconds
        while True:
            if info := self._greet(bring_variables):
                return info
            prepare_state(self._layout)
            with self._locks() as locks:
                if locks:
                    self._start(locks)
                    return self._info(self._layout, started=True)
            self._end_orphans()
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"the embedded stack neither answers nor ends; {self._layout.lock} is held; see 'swarmq status'"
                )
            time.sleep(_POLL_SECONDS)

    def wait_ready(self, timeout_seconds: float) -> None:
        """Until all workers take tasks; EnvironmentFault when the stack failed, or they do not within the time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            status = self.status()
            if status.state in ("stopped", "failed"):
                raise EnvironmentFault(f"the embedded stack does not run: {status.reason or status.state}")
            waiting = [p.name for p in status.processes if p.name in QUEUES and not p.ready]
            if not waiting and {p.name for p in status.processes} >= set(QUEUES) & set(self._commands):
                return
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"workers not ready after {timeout_seconds:g} s: {', '.join(waiting)}; logs in {status.log_dir}"
                )
            time.sleep(_POLL_SECONDS)

    def down(self, *, force: bool = False) -> bool:
        """Stop everything; whether there was anything. Unless ``force``, UsageError while swarms are unfinished."""
        record = read_record(self._layout.record)
        if record is None:
            return False
        supervisor = find(record.supervisor)
        if supervisor is None and not record.processes:
            return False
        if supervisor is not None:
            if not force and (active := self._count_active()):
                raise UsageError(
                    f"{active} unfinished swarm{'' if active == 1 else 's'} would stop: end what is not wanted with"
                    " swarmq cancel ID, or use --force: they stop now and go on at the next start"
                )
            supervisor.terminate()
        self._wait_stopped(record)
        return True

    def status(self) -> StackStatus:
        """What runs now, as far as the record and the process table tell."""
        return look(self._layout)

    def touch(self) -> None:
        """Say that a client is there, so that the stack does not stop for being idle."""
        record = read_record(self._layout.record)
        if record is not None and record.state == "running":
            with contextlib.suppress(OSError):  # it may be stopping at this moment
                self._running_layout(record.runtime_dir).touch.touch(mode=0o600)

    def _greet(self, bring_variables: bool) -> StackInfo | None:
        """The running stack, which then knows that a client is there, and what it brings; None when there is none."""
        record = read_record(self._layout.record)
        if record is None or record.state != "running":
            return None
        layout = self._running_layout(record.runtime_dir)
        if not layout.runtime_dir.is_dir():
            return None
        check_private(layout.runtime_dir)  # keys go there
        brought = client_variables(self._settings) if bring_variables else {}
        answer = control.call(layout.control, brought, _GREETING_SECONDS + self._grace_seconds)
        if answer is None or answer.get("state_dir") != str(layout.state_dir):
            return None
        return replace(self._info(layout, started=False), changed=tuple(answer.get("changed", ())))

    def _running_layout(self, runtime_dir: str) -> Layout:
        """A stack found by its state directory may have been started with another runtime directory than ours."""
        return Layout(self._layout.state_dir, Path(runtime_dir))

    def _info(self, layout: Layout, *, started: bool) -> StackInfo:
        try:
            password = read_password(layout)
        except OSError as error:
            raise state_fault(layout.password, error) from None
        return StackInfo(redis_url(layout, password), layout.url_file, layout.runtime_dir, started)

    @contextlib.contextmanager
    def _locks(self) -> Iterator[tuple[int, ...]]:
        """Both locks, or nothing when somebody else has one. Closed at the end here; the supervisor has copies."""
        held: list[int] = []
        try:
            if (state_lock := _try_lock(self._layout.lock)) is None:
                yield ()
                return
            held.append(state_lock)
            prepare_runtime(self._layout)
            if (runtime_lock := _try_lock(self._layout.runtime_lock)) is None:
                self._refuse_foreign_stack()
                yield ()
                return
            held.append(runtime_lock)
            yield tuple(held)
        finally:
            for descriptor in held:
                os.close(descriptor)

    def _refuse_foreign_stack(self) -> None:
        """Two state directories cannot share the sockets of one runtime directory."""
        answer = control.call(self._layout.control, {}, _GREETING_SECONDS)
        other = answer.get("state_dir") if answer else None
        if other not in (None, str(self._layout.state_dir)):
            raise EnvironmentFault(
                f"runtime directory {self._layout.runtime_dir}: the stack of {other} runs there; {WAY_OUT}"
            )

    def _start(self, locks: tuple[int, ...]) -> None:
        """Under the locks, so that whatever the record still names is an orphan."""
        layout = self._layout
        end_leftovers(layout, self._grace_seconds)
        binary = valkey.find_binary()
        try:
            for heartbeat in layout.workers_dir.glob("*.json"):
                heartbeat.unlink(missing_ok=True)
            password = read_password(layout, create=True)
            write_private(layout.url_file, redis_url(layout, password))
            plan = Plan(
                layout=layout,
                valkey=binary,
                commands=self._commands,
                variables=worker_variables(self._settings, layout),
                locks=locks,
                idle_seconds=self._settings.stack_idle_seconds,
                grace_seconds=self._grace_seconds,
                delays_seconds=self._delays_seconds,
                backoff=self._backoff,
            )
            answer = _launch(plan)
        except OSError as error:
            raise state_fault(Path(error.filename or layout.stack_dir), error) from None
        if answer.get("error"):
            raise EnvironmentFault(str(answer["error"]))

    def _count_active(self) -> int:
        record = read_record(self._layout.record)
        if record is None:
            return 0
        with contextlib.suppress(OSError):
            return valkey.count_active(self._running_layout(record.runtime_dir), read_password(self._layout)) or 0
        return 0

    def _wait_stopped(self, record: StackRecord) -> None:
        """Until the lock is free and both processes that held it are gone, which is a moment later."""
        deadline = time.monotonic() + 3 * self._grace_seconds
        while time.monotonic() < deadline:
            if (lock := _try_lock(self._layout.lock)) is not None:
                try:
                    end_leftovers(self._layout, self._grace_seconds)
                finally:
                    os.close(lock)
                if not find(record.supervisor) and not find(record.guard):
                    return
            self._end_orphans()
            time.sleep(_POLL_SECONDS)
        raise EnvironmentFault(f"the embedded stack does not end; {self._layout.lock} is held; see 'swarmq status'")

    def _end_orphans(self) -> None:
        """End what is left when supervisor and guard were both killed; Valkey still holds the lock then."""
        record = read_record(self._layout.record)
        if record is not None and record.processes and not find(record.supervisor) and not find(record.guard):
            end_leftovers(self._layout, self._grace_seconds)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None when another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _launch(plan: Plan) -> dict[str, str]:
    """Start the supervisor; its answer, which comes when Valkey takes commands, or why it cannot."""
    log = plan.layout.log("supervisor")
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "swarmq.devstack.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=plan.layout.stack_dir,
            start_new_session=True,
            pass_fds=plan.locks,
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once; the log says why
            process.stdin.write(plan.encode())
            process.stdin.close()
        line = b""
        if select.select([process.stdout], [], [], START_SECONDS)[0]:
            line = process.stdout.readline()
    try:
        answer: dict[str, str] = json.loads(line)
        return answer
    except ValueError:
        return {"error": f"the supervisor of the embedded stack did not start; see {log}"}
