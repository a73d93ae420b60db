"""AgentPool without a worker: what Celery calls, called by hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from swarmq.fleet.pool import AgentPool, StopReason, current_job
from swarmq.fleet.run import run


@pytest.fixture
def pool() -> Iterator[AgentPool]:
    made = AgentPool(limit=4)
    made.shutdown_seconds = 5.0
    made.start()
    yield made
    made.stop()


class Applied:
    """One task handed to the pool; knows the pid that Celery would keep, and what came out."""

    def __init__(self, pool: AgentPool, target: Callable[[], Any], **options: Any) -> None:
        self.accepted, self.returned = threading.Event(), threading.Event()
        self.pid: int | None = None
        self.value: Any = None
        self.handle = pool.on_apply(target, (), {}, callback=self._done, accept_callback=self._accept, **options)

    def _accept(self, pid: int, _: float) -> None:
        self.pid = pid
        self.accepted.set()

    def _done(self, value: Any) -> None:
        self.value = value
        self.returned.set()


def waiting_task(started: threading.Event, cleaned: list[str]) -> Callable[[], Any]:
    async def wait() -> str:
        try:
            started.set()
            await asyncio.Event().wait()
            return "never"
        finally:
            await asyncio.sleep(0)  # clean-up may itself wait
            job = current_reason.get("job")
            cleaned.append(str(job.stopping) if job else "no job")

    current_reason: dict[str, Any] = {}

    def target() -> Any:
        current_reason["job"] = current_job()
        return run(wait())

    return target


def test_a_coroutine_runs_in_the_one_loop(pool: AgentPool) -> None:
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    first, second = (Applied(pool, lambda: run(loop_id())) for _ in range(2))
    assert first.returned.wait(5)
    assert second.returned.wait(5)
    assert first.value == second.value == id(pool.background.loop)


def test_terminate_cancels_the_coroutine_and_stores_nothing(pool: AgentPool) -> None:
    started, cleaned = threading.Event(), []  # type: ignore[var-annotated]
    task = Applied(pool, waiting_task(started, cleaned))
    assert started.wait(5)
    assert task.pid is not None
    pool.terminate_job(task.pid)
    task.handle.get(5)
    assert cleaned == [str(StopReason.KILL)]
    assert not task.returned.is_set()


def test_a_second_terminate_does_not_cut_short_the_clean_up(pool: AgentPool) -> None:
    started, cleaning, cleaned = threading.Event(), threading.Event(), threading.Event()
    go_on = asyncio.Event()

    async def wait() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go_on.wait()
            cleaned.set()

    task = Applied(pool, lambda: run(wait()))
    assert started.wait(5)
    assert task.pid is not None
    pool.terminate_job(task.pid)
    assert cleaning.wait(5)
    pool.terminate_job(task.pid)
    pool.background.loop.call_soon_threadsafe(go_on.set)
    task.handle.get(5)
    assert cleaned.is_set()


def test_terminate_before_the_start_never_runs_the_task(pool: AgentPool) -> None:
    ran = threading.Event()
    pool_pid: list[int] = []

    def accept(pid: int, _: float) -> None:
        pool_pid.append(pid)
        pool.terminate_job(pid)  # what Request.on_accepted does for a request revoked while it was reserved

    handle = pool.on_apply(ran.set, (), {}, callback=lambda _: None, accept_callback=accept)
    handle.get(5)
    assert pool_pid
    assert not ran.is_set()


def test_stop_hands_over_and_waits_for_the_clean_up(pool: AgentPool) -> None:
    started, cleaned = threading.Event(), []  # type: ignore[var-annotated]
    Applied(pool, waiting_task(started, cleaned))
    assert started.wait(5)
    pool.stop()
    assert cleaned == [str(StopReason.HAND_OVER)]


def test_a_job_that_does_not_give_way_is_given_up(pool: AgentPool) -> None:
    started, let_go = threading.Event(), asyncio.Event()

    async def stubborn() -> None:
        started.set()
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    task = Applied(pool, lambda: run(stubborn()))
    assert started.wait(5)
    pool.shutdown_seconds = 0.05
    pool.background.loop.call_later(0.3, let_go.set)
    pool.stop()
    assert not task.returned.is_set()


def test_a_time_limit_stops_the_coroutine(pool: AgentPool) -> None:
    started, cleaned = threading.Event(), []  # type: ignore[var-annotated]
    expired: list[tuple[bool, float]] = []
    task = Applied(
        pool,
        waiting_task(started, cleaned),
        timeout=0.05,
        timeout_callback=lambda soft, seconds: expired.append((soft, seconds)),
    )
    task.handle.get(5)
    assert expired == [(False, 0.05)]
    assert cleaned


def test_outside_the_pool_a_process_has_one_loop_for_all_its_tasks() -> None:
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    results: list[int] = []

    def two_tasks() -> None:
        results.extend([run(loop_id()), run(loop_id())])

    thread = threading.Thread(target=two_tasks)
    thread.start()
    thread.join()
    assert len(set(results)) == 1


def test_a_coroutine_cancelled_from_within_fails_like_any_other(pool: AgentPool) -> None:
    """As a BaseException it would reach Celery's callback as a lost worker, and the request would never end."""

    async def stray() -> None:
        raise asyncio.CancelledError

    task = Applied(pool, lambda: run(stray()))
    with pytest.raises(RuntimeError, match="from within"):
        task.handle.get(5)
    assert not task.returned.is_set()
