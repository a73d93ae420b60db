"""AgentPool: a Celery pool whose task threads wait on coroutines of ONE event loop per worker process.

Facts of Celery that force this design (5.7): the stock thread pool has no ``terminate_job``; ``Request.on_accepted``
keeps the pid that ``apply_target`` reports and hands it to ``terminate_job`` on a revoke, so a pid of our own finds the
coroutine; a BaseException named in ``propagate`` passes through the tracer, so that a task that was killed or handed
over is neither stored nor acked; a cold shutdown calls ``Request.cancel``, a revoke calls ``Request.terminate``, and
both end in ``terminate_job``: AgentRequest tells them apart.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from enum import StrEnum
from typing import Any, TypeVar, cast

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker.request import Request

from swarmq.background import BackgroundLoop

T = TypeVar("T")


class StopReason(StrEnum):
    """Why the pool cancels a coroutine."""

    KILL = "kill"
    """Revoked: the work is not wanted any more."""
    HAND_OVER = "hand_over"
    """The worker stops: the message goes back to the queue and another worker goes on."""


class JobStopped(BaseException):
    """Leaves a task that was stopped by the pool: nothing is stored, nothing is acked."""


class Job:
    """One task in the pool. ``stopping`` is set before the coroutine is cancelled, so that it can ask why."""

    def __init__(self, pool: AgentPool) -> None:
        self.pool = pool
        self.stopping: StopReason | None = None
        self.finished = threading.Event()
        self.future: Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None

    def stop(self, reason: StopReason) -> None:
        """Cancel the coroutine once: a revoke may come twice, and must not cut short the clean-up of the first."""
        with self.pool.lock:
            task = None if self.stopping is not None else self._task
            self.stopping = self.stopping or reason
        if task is not None:
            self.pool.background.loop.call_soon_threadsafe(task.cancel)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run in the pool's loop and wait. Raises JobStopped where the coroutine gave way to ``stop``."""
        loop = self.pool.background.loop

        def start() -> None:
            task = loop.create_task(coroutine)
            task.add_done_callback(lambda _: self.finished.set())
            with self.pool.lock:
                self._task = task
                stopping = self.stopping
            if stopping is not None:
                task.cancel()

        loop.call_soon_threadsafe(start)
        self.finished.wait()
        task = self._task
        if task is None or not task.done() or (task.cancelled() and self.stopping is not None):
            raise JobStopped(self.stopping)
        if task.cancelled():  # not by us: as a BaseException it would leave the request without an end, and unacked
            raise RuntimeError("the task's coroutine was cancelled from within")
        return cast(T, task.result())


class _Handle(ApplyResult):  # type: ignore[misc]
    """What Request keeps of a running job; Request.terminate calls this besides the pool's terminate_job."""

    def terminate(self, signal: Any = None) -> None:
        return


class AgentRequest(Request):  # type: ignore[misc]
    """Tells the pool that a cancelled (not revoked) request is to be handed over."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        if isinstance(pool, AgentPool):
            pool.stopping_reason = StopReason.HAND_OVER
        super().cancel(pool, signal, emit_retry)


_current = threading.local()


def current_job() -> Job | None:
    """The job whose thread this is; None outside an AgentPool."""
    return getattr(_current, "job", None)


class AgentPool(ThreadPool):  # type: ignore[misc]
    """``CELERY_CUSTOM_WORKER_POOL=swarmq.fleet.pool:AgentPool``, ``-P custom``."""

    shutdown_seconds = 20.0
    """Most time that a stopping worker gives its jobs; set from the settings when the worker starts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.RLock()  # a signal handler may stop jobs in the middle of on_apply
        self.background = BackgroundLoop("agents", watch_stalls=True)
        self.stopping_reason = StopReason.KILL
        self._pids = itertools.count(1)
        self._jobs: dict[int, Job] = {}

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> _Handle:
        pid = next(self._pids)
        job = Job(self)
        with self.lock:
            self._jobs[pid] = job

        def expire() -> None:
            if timeout_callback is not None:
                timeout_callback(False, timeout)
            job.stop(StopReason.KILL)

        def work() -> None:
            _current.job = job
            timer = threading.Timer(timeout, expire) if timeout else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            try:
                apply_target(guarded, args, kwargs, callback, accept_callback, pid=pid, propagate=(JobStopped,))
            except JobStopped:
                pass  # a revoke has done the bookkeeping; a hand-over wants the message requeued
            finally:
                _current.job = None
                if timer is not None:
                    timer.cancel()
                job.finished.set()
                with self.lock:
                    self._jobs.pop(pid, None)

        def guarded(*task_args: Any, **task_kwargs: Any) -> Any:
            # Terminated between being reserved and being started: accept_callback has just said so.
            if job.stopping is not None:
                raise JobStopped(job.stopping)
            return target(*task_args, **task_kwargs)

        job.future = self.executor.submit(work)
        return _Handle(job.future)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Cancel the coroutine of that job; called by revoke(terminate=True) and by a cold shutdown."""
        with self.lock:
            job = self._jobs.get(pid)
        if job is not None:
            job.stop(self.stopping_reason)

    def on_stop(self) -> None:
        """Hand over what still runs, wait for it a bounded time, then stop the loop. May be called twice."""
        self.stopping_reason = StopReason.HAND_OVER
        self.executor.shutdown(wait=False, cancel_futures=True)
        with self.lock:
            jobs = [job for job in self._jobs.values() if job.future is None or not job.future.cancelled()]
        for job in jobs:
            job.stop(StopReason.HAND_OVER)
        deadline = time.monotonic() + self.shutdown_seconds
        for job in jobs:
            job.finished.wait(max(0.0, deadline - time.monotonic()))
            job.finished.set()  # a job that did not make it is given up: its thread raises JobStopped
        self.executor.shutdown(wait=True)
        self.background.stop()

    on_terminate = on_stop
