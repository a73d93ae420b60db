"""``python -m swarmq.devstack.supervisor``: one process that keeps Valkey, the workers and beat running.

It imports little, because each start of the stack waits for it. It reads its plan from standard input, answers one
line of JSON on standard output as soon as Valkey takes commands (or with the reason why not), and goes on detached.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import psutil

from swarmq.devstack import valkey
from swarmq.devstack.children import Child
from swarmq.devstack.control import Caller, ControlSocket
from swarmq.devstack.guard import adopt_orphans, hide_environment, mute, start_guard
from swarmq.devstack.layout import read_password, state_fault
from swarmq.devstack.plan import Plan
from swarmq.devstack.record import StackRecord, describe, end_all, kill
from swarmq.devstack.variables import changed, merged
from swarmq.errors import EnvironmentFault

LOAD_SECONDS = 120.0
"""Valkey may need this long to load what it kept; a fresh one answers within 50 ms."""
_POLL_SECONDS = 0.005
_LONGEST_SLEEP_SECONDS = 5.0


class Supervisor:
    """Starts, restarts and stops the children of one plan, in one thread."""

    def __init__(self, plan: Plan, guard_pid: int) -> None:
        self._plan = plan
        self._layout = plan.layout
        self._password = read_password(plan.layout)
        self._variables = dict(plan.variables)
        self._valkey = self._child("valkey", [str(plan.valkey), str(plan.layout.valkey_config)])
        self._workers = [self._child(name, command) for name, command in plan.commands.items()]
        self._control: ControlSocket | None = None
        self._waiting: list[Caller] = []
        self._kill_at = 0.0
        self._stop_reason: str | None = None
        self._touched_at = time.monotonic()
        self._touch_stamp = 0.0
        self._alarm, self._alarm_writer = os.pipe()
        log = plan.layout.log("supervisor")
        self._record = StackRecord(
            "starting",
            str(plan.layout.runtime_dir),
            supervisor=describe("supervisor", os.getpid(), log),
            guard=describe("guard", guard_pid, log),
        )

    def _child(self, name: str, command: list[str]) -> Child:
        return Child(name, command, self._layout.log(name), self._layout.stack_dir, self._plan.backoff)

    def run(self, ready: Callable[[], None]) -> None:
        """Until told to stop or idle; EnvironmentFault says why the stack cannot go on. ``ready``: Valkey answers."""
        state, reason = "failed", "the supervisor itself failed; see its log"
        self._catch_signals()
        try:
            self._start()
            ready()
            while self._stop_reason is None:
                self._wait()
                self._reap()
                self._start_due()
                self._answer_waiting()
                self._stop_when_idle()
            state, reason = "stopped", self._stop_reason
        except EnvironmentFault as error:
            reason = str(error)
            raise
        finally:
            self._stop(state, reason)

    def _catch_signals(self) -> None:
        os.set_blocking(self._alarm, False)
        os.set_blocking(self._alarm_writer, False)
        signal.set_wakeup_fd(self._alarm_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only with a handler does the wakeup descriptor fire
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal that started us may go

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_reason = "told to stop"

    def _start(self) -> None:
        """Valkey first, then everything else at once: a worker that finds no broker waits for a second."""
        try:
            valkey.write_config(self._layout, self._password)
            self._write_record()
            self._start_valkey()
            for worker in self._workers:
                worker.due_at = time.monotonic() + self._plan.delays_seconds.get(worker.name, 0.0)
            self._start_due()
            self._record = replace(self._record, state="running")
            self._write_record()  # unlike later ones it must succeed: a stack without it is found by nobody
            self._control = ControlSocket(self._layout.control)
        except OSError as error:
            raise state_fault(self._layout.stack_dir, error) from None

    def _start_valkey(self) -> None:
        self._spawn(self._valkey)
        deadline = time.monotonic() + LOAD_SECONDS
        while not valkey.answers(self._layout, self._password):
            self._reap()
            if self._valkey.pid is None:
                raise EnvironmentFault(f"the embedded Valkey ended at once: {self._valkey.last_words()}")
            if self._stop_reason is not None or time.monotonic() > deadline:
                raise EnvironmentFault(f"the embedded Valkey does not answer: {self._valkey.last_words()}")
            time.sleep(_POLL_SECONDS)

    def _spawn(self, child: Child) -> None:
        environment = self._environment()
        locks: tuple[int, ...] = ()
        if child is self._valkey:  # needs no key; holds the locks, so that no second one can open its data
            environment, locks = {"PATH": os.defpath, "LC_ALL": "C"}, self._plan.locks
        try:
            child.start(environment, locks)
        except OSError as error:
            raise EnvironmentFault(f"{child.name} of the embedded stack cannot be started: {error}") from None

    def _environment(self) -> dict[str, str]:
        """That of the client who started the stack, with the settings and keys that clients sent."""
        inherited = {name: value for name, value in os.environ.items() if name != "SWARMQ_REDIS_URL"}
        return inherited | self._variables

    def _wait(self) -> None:
        """Sleep until a signal, a caller, or the next thing to do."""
        now = time.monotonic()
        due = [child.due_at for child in self._children() if child.due_at is not None]
        if any(worker.replacing for worker in self._workers):
            due.append(self._kill_at)
        sleep_seconds = min(_LONGEST_SLEEP_SECONDS, self._plan.idle_seconds / 4, *(at - now for at in due))
        assert self._control is not None
        readable, _, _ = select.select([self._alarm, self._control.fileno()], [], [], max(0.0, sleep_seconds))
        if self._alarm in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._alarm, 4096)
        if self._control.fileno() in readable and (caller := self._control.accept()):
            self._greet(caller)

    def _greet(self, caller: Caller) -> None:
        try:
            variables = merged(self._variables, caller.variables)
        except (ValueError, TypeError):  # endpoints that do not parse: no client of ours
            caller.connection.close()
            return
        self._touched_at = time.monotonic()
        self._waiting.append(caller)
        caller.changed = changed(self._variables, variables)
        if not caller.changed:
            return
        # A worker's environment is fixed at its start, so a new key means new workers; branches are handed over.
        self._variables = variables
        self._kill_at = time.monotonic() + self._plan.grace_seconds
        for worker in self._workers:
            worker.replace()

    def _answer_waiting(self) -> None:
        if not self._waiting:
            return
        replacing = [worker for worker in self._workers if worker.replacing]
        if not replacing:
            for caller in self._waiting:
                caller.answer(self._layout.state_dir)
            self._waiting.clear()
        elif time.monotonic() > self._kill_at:
            for worker in replacing:
                worker.kill()

    def _reap(self) -> None:
        """Take the exit codes of all that ended, orphans of workers included."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for child in self._children():
                if child.pid == pid:
                    ended = True
                    if reason := child.ended(os.waitstatus_to_exitcode(status)):
                        raise EnvironmentFault(f"the embedded stack gave up: {reason}")
        if ended:
            self._note()

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [child for child in self._children() if child.due_at is not None and child.due_at <= now]
        for child in due:
            self._spawn(child)
        if due:
            self._note()

    def _stop_when_idle(self) -> None:
        """Also when no client can find the stack any more: XDG_RUNTIME_DIR goes with the user's last session."""
        now = time.monotonic()
        if not self._layout.control.exists():
            self._stop_reason = f"{self._layout.runtime_dir} was removed"
            return
        with contextlib.suppress(OSError):
            stamp = self._layout.touch.stat().st_mtime
            if stamp != self._touch_stamp:  # compared with itself alone: clocks are set, files carry old times
                self._touch_stamp, self._touched_at = stamp, now
        if now - self._touched_at < self._plan.idle_seconds:
            return
        if valkey.count_active(self._layout, self._password) == 0:
            self._stop_reason = "idle"
        self._touched_at = now

    def _stop(self, state: str, reason: str) -> None:
        """End everything; from the closed control socket a client sees that it has to wait and start anew."""
        if self._control is not None:
            self._control.close()
        self._record = replace(self._record, state="stopping", reason=reason)
        self._note()
        records = [child.record for child in self._children() if child.record is not None]
        end_all(records, self._plan.grace_seconds)
        guard = self._record.guard
        kill(p for p in psutil.Process().children(recursive=True) if guard is None or p.pid != guard.pid)
        for path in (self._layout.socket, self._layout.url_file, self._layout.touch):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._record = replace(self._record, state=state, supervisor=None, guard=None)
        self._note(running=False)

    def _children(self) -> list[Child]:
        return [self._valkey, *self._workers]

    def _note(self, *, running: bool = True) -> None:
        """Bring the record up to date. A full disk must not end a stack that runs."""
        try:
            self._write_record(running=running)
        except OSError as error:
            with contextlib.suppress(OSError):
                print(f"record not written: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def _write_record(self, *, running: bool = True) -> None:
        processes = tuple(child.record for child in self._children() if running and child.record is not None)
        self._record = replace(self._record, processes=processes)
        self._record.write(self._layout.record)


def main() -> int:
    """Detach, start the guard, supervise. The exit code is for the log alone: the caller reads the line of JSON."""
    plan = Plan.decode(sys.stdin.buffer.read())
    if os.fork() > 0:
        os._exit(0)  # whoever started us need not wait for, or adopt, a process that lives for hours
    hide_environment()
    guard_pid = start_guard(plan.layout, plan.grace_seconds)
    adopt_orphans()
    answered = False

    def ready(error: str | None = None) -> None:
        nonlocal answered
        with contextlib.suppress(BrokenPipeError):  # the client was interrupted meanwhile
            if not answered:
                os.write(1, json.dumps({"error": error}).encode() + b"\n")
        answered = True
        mute()

    try:
        Supervisor(plan, guard_pid).run(ready)
    except EnvironmentFault as error:
        ready(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
