"""Blocking work (git, file scans, big parses) outside the event loop, in one bounded pool of threads per process."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_THREADS = 8


class _Pool:
    """Made on first use, and again in a forked child: threads do not survive a fork."""

    def __init__(self) -> None:
        self.threads = DEFAULT_THREADS
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0

    def executor(self) -> ThreadPoolExecutor:
        if self._executor is not None and self._pid == os.getpid():
            return self._executor
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="swarmq-blocking")
                self._pid = os.getpid()
            return self._executor

    def close(self) -> None:
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait=True, cancel_futures=True)


_pool = _Pool()


def configure(threads: int) -> None:
    """Set the number of threads; a pool that runs already is closed first, so call this at start-up."""
    if threads < 1:
        raise ValueError(f"a pool needs at least 1 thread, not {threads}")
    close()
    _pool.threads = threads


def close() -> None:
    """Wait for what runs, drop what waits. The next ``run_blocking`` makes a new pool."""
    _pool.close()


async def run_blocking(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``fn(*args, **kwargs)`` in a thread, with the caller's context variables.

    Cancelling the caller drops a call that still waits; one that runs is finished by its thread, unobserved.
    """
    context = contextvars.copy_context()
    call = functools.partial(context.run, fn, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool.executor(), call)
