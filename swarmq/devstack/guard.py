"""What holds however the supervisor ends, SIGKILL included: a second process that cleans up after it.

The guard reads a pipe of which only the supervisor holds the other end, so it wakes when the supervisor is gone, and
ends what the record still names, workers first. PR_SET_PDEATHSIG would reach Valkey and the workers at the same
moment, so that no worker could hand its branches over; and only Linux has it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from dataclasses import replace

from swarmq.devstack.layout import Layout
from swarmq.devstack.record import end_all, read_record

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
"""Both from linux/prctl.h."""


def start_guard(layout: Layout, grace_seconds: float) -> int:
    """Fork the guard; its pid. It inherits the locks: a new stack waits until it is done."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid > 0:
        os.close(ours)  # ``theirs`` stays open until this process ends; children started by exec do not get it
        return pid
    os.close(theirs)
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mute()
    code = 1
    try:
        os.read(ours, 1)
        end_leftovers(layout, grace_seconds)
        code = 0
    except Exception:  # noqa: BLE001 - the last word of a process that nobody waits for
        traceback.print_exc()
    finally:
        os._exit(code)  # never back into the supervisor's code


def end_leftovers(layout: Layout, grace_seconds: float) -> None:
    """End what the record of a stack without a supervisor still names; after an orderly end that is nothing."""
    record = read_record(layout.record)
    if record is None or not record.processes:
        return
    end_all(record.processes, grace_seconds)
    reason = record.reason or "the supervisor was killed"
    replace(record, state="failed", reason=reason, supervisor=None, guard=None, processes=()).write(layout.record)


def mute() -> None:
    """Let go of the pipes to whoever started us."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def hide_environment() -> None:
    """Keep the keys in this process's environment from other processes of the user, agents' shells too (Linux)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of what workers leave behind, so that stopping finds it (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
