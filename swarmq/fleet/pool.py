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
from collections.abc import Callable, Coroutine, Iterable
from enum import StrEnum
from typing import Any, TypeVar, cast

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker.request import Request

from swarmq.background import BackgroundLoop

T = TypeVar("T")

LAST_SECONDS = 5.0
"""For Celery's bookkeeping in the jobs' threads, which waits for Redis where that is silent, and for the loop; each."""


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
        self.leave: Callable[[], bool] | None = None
        """Asked in the loop at a hand-over: whether the coroutine ends by itself soon. Otherwise it is cancelled."""
        self.begun = False
        """Whether a thread has taken it up. No other is waited for: its message goes back with the worker's end."""
        self.gave_way, self.finished, self.left = threading.Event(), threading.Event(), threading.Event()
        self._task: asyncio.Task[Any] | None = None

    def stop(self, reason: StopReason) -> None:
        """Have the coroutine give way, once: a revoke may come twice, and must not cut short the first's clean-up."""
        with self.pool.lock:
            first, self.stopping = self.stopping is None, self.stopping or reason
        if first:
            self.pool.background.loop.call_soon_threadsafe(self._give_way)
        elif reason is StopReason.KILL:
            self.cut_off()

    def cut_off(self) -> None:
        """Wait no longer for what was to end by itself. Does nothing where the coroutine has been cancelled."""
        if not self.finished.is_set():
            self.pool.background.loop.call_soon_threadsafe(self._cancel)

    def ended(self) -> None:
        self.gave_way.set()
        self.finished.set()

    @property
    def others_stay(self) -> bool:
        """Whether the worker, though it stops, waits for another job: until then it gives no message back."""
        return any(not other.gave_way.is_set() for other in self.pool.jobs() if other is not self)

    def _give_way(self) -> None:
        patient = self.stopping is StopReason.HAND_OVER and self.pool.handover_seconds > 0
        if not (patient and self.leave is not None and self.leave()):
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None and not self.gave_way.is_set():
            self.gave_way.set()
            self._task.cancel()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run in the pool's loop and wait. Raises JobStopped where the coroutine gave way to ``stop``."""
        loop = self.pool.background.loop

        def start() -> None:
            self._task = loop.create_task(coroutine)
            self._task.add_done_callback(lambda _: self.ended())
            if self.stopping is not None:
                self._cancel()

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

    handover_seconds = 20.0
    """Most time that a stopping worker waits for jobs that end by themselves; with 0 it cancels them as well."""
    shutdown_seconds = 20.0
    """Most time that it gives to cancelled jobs, after that. Both are set from the settings when the worker starts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.RLock()  # a signal handler may stop jobs in the middle of on_apply
        self.background = BackgroundLoop("agents", watch_stalls=True)
        self.stopping_reason = StopReason.KILL
        self._stopping = self._hurried = False
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
            job.begun = True  # before the pool is asked: it sets the one and asks the other the other way round
            _current.job = job
            timer = threading.Timer(timeout, expire) if timeout else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            try:
                if not self._stopping:
                    apply_target(guarded, args, kwargs, callback, accept_callback, pid=pid, propagate=(JobStopped,))
            except JobStopped:
                pass  # a revoke has done the bookkeeping; a hand-over wants the message requeued
            finally:
                _current.job = None
                if timer is not None:
                    timer.cancel()
                job.ended()
                with self.lock:
                    self._jobs.pop(pid, None)
                job.left.set()

        def guarded(*task_args: Any, **task_kwargs: Any) -> Any:
            # Terminated between being reserved and being started: accept_callback has just said so.
            if job.stopping is not None:
                raise JobStopped(job.stopping)
            return target(*task_args, **task_kwargs)

        return _Handle(self.executor.submit(work))

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Cancel the coroutine of that job; called by revoke(terminate=True) and by a cold shutdown."""
        with self.lock:
            job = self._jobs.get(pid)
        if job is not None:
            job.stop(self.stopping_reason)

    def jobs(self) -> list[Job]:
        """Those that a thread has taken up."""
        with self.lock:
            return [job for job in self._jobs.values() if job.begun]

    def on_stop(self) -> None:
        """Hand over what still runs, wait for it a bounded time, then stop the loop. May be called twice.

        Called in the middle of that, by the handler of another signal, it waits for no job to end by itself any more.
        The executor is not shut down: a handler that interrupts on_apply would wait for the lock of its own thread.
        """
        again, self._stopping = self._stopping, True
        self.stopping_reason = StopReason.HAND_OVER
        jobs = self.jobs()
        for job in jobs:
            job.stop(StopReason.HAND_OVER)
        if not again and not self._hurried:
            _wait([job.gave_way for job in jobs], self.handover_seconds)
        self.hurry()
        _wait([job.finished for job in jobs], self.shutdown_seconds)
        for job in jobs:
            job.ended()  # a job that did not make it is given up: its thread raises JobStopped
        _wait([job.left for job in jobs], LAST_SECONDS)
        self.background.stop(LAST_SECONDS)

    on_terminate = on_stop

    def hurry(self, *, stops: bool = False) -> None:
        """Where the worker ``stops``, though the pool may not be told yet, wait for nothing but clean-up."""
        self._hurried = self._hurried or stops
        for job in self.jobs() if self._stopping else ():
            job.cut_off()


def _wait(events: Iterable[threading.Event], seconds: float) -> None:
    """Until all are set, for at most that time together."""
    deadline = time.monotonic() + seconds
    for event in events:
        event.wait(max(0.0, deadline - time.monotonic()))
