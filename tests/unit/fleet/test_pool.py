"""AgentPool without a worker: what Celery calls, called by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from swarmq.fleet.pool import AgentPool, StopReason, current_job
from swarmq.fleet.run import run


@pytest.fixture
def pool() -> Iterator[AgentPool]:
    made = AgentPool(limit=4)
    made.handover_seconds = made.shutdown_seconds = 30.0
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


def test_a_signal_while_a_job_is_taken_waits_for_nothing_and_leaves_nothing(
    pool: AgentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.handover_seconds = pool.shutdown_seconds = 3600.0
    submit = pool.executor.submit

    def stopped_meanwhile(work: Callable[[], None]) -> Any:
        pool.on_stop()
        return submit(work)

    monkeypatch.setattr(pool.executor, "submit", stopped_meanwhile)
    applied = Applied(pool, lambda: "never")
    applied.handle.get(30)
    assert not applied.accepted.is_set()
    assert pool.jobs() == []
    pool.on_stop()


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


@pytest.mark.timeout(60)
def test_a_signal_in_the_middle_of_on_apply_stops_the_pool(pool: AgentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor, which starts a thread then, holds its lock. What was being taken does not run."""
    start, ran = threading.Thread.start, threading.Event()

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGUSR1)
        start(thread)

    before = signal.signal(signal.SIGUSR1, lambda *_: pool.stop())
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    try:
        late = Applied(pool, ran.set)
    finally:
        signal.signal(signal.SIGUSR1, before)
    late.handle.get(30)
    assert (ran.is_set(), late.accepted.is_set(), late.returned.is_set()) == (False, False, False)


def test_what_comes_after_the_stop_does_not_run(pool: AgentPool) -> None:
    """A message that was being taken when the signal came: not acknowledged, it goes back with the others."""
    ran = threading.Event()
    pool.stop()
    late = Applied(pool, ran.set)
    late.handle.get(30)
    assert (ran.is_set(), late.returned.is_set()) == (False, False)
    pool.stop()


def test_bookkeeping_that_waits_for_redis_does_not_hold_up_the_end(
    pool: AgentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery stores a result in the job's thread, and tries until it can."""
    monkeypatch.setattr("swarmq.fleet.pool.LAST_SECONDS", 0.05)
    storing, answers, stored = threading.Event(), threading.Event(), threading.Event()

    def store(_: Any) -> None:
        storing.set()
        answers.wait(30)
        stored.set()

    async def work() -> None:
        return

    pool.on_apply(lambda: run(work()), (), {}, callback=store, accept_callback=lambda *_: None)
    assert storing.wait(30)
    pool.stop()
    held_up = stored.is_set()
    answers.set()
    assert not held_up


class Leaving:
    """A task that is in the middle of something: told to leave, it ends by itself when that is over."""

    def __init__(self, pool: AgentPool, *, leaves: bool = True) -> None:
        self.pool, self.over = pool, asyncio.Event()
        self.asked, self.cut_off, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.others_stay: bool | None = None
        started = threading.Event()

        def leave() -> bool:
            self.asked.set()
            return leaves

        async def work() -> None:
            self.job.leave = leave
            started.set()
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                self.cut_off.set()
            self.others_stay = self.job.others_stay
            self.ended.set()
            raise asyncio.CancelledError  # as run_branch does, so that the message is not acknowledged

        def target() -> None:
            job = current_job()
            assert job is not None
            self.job = job
            run(work())

        self.task = Applied(pool, target)
        assert started.wait(30)

    def end(self) -> None:
        self.pool.background.loop.call_soon_threadsafe(self.over.set)


def stopped(pool: AgentPool) -> threading.Thread:
    """Stop the pool as the main thread of a worker does; joined when it has stopped."""
    thread = threading.Thread(target=pool.stop)
    thread.start()
    return thread


def test_a_job_that_leaves_by_itself_is_waited_for_and_holds_up_no_other(pool: AgentPool) -> None:
    staying, going = Leaving(pool), Leaving(pool, leaves=False)
    stopping = stopped(pool)
    assert going.ended.wait(30)
    assert (going.cut_off.is_set(), going.others_stay) == (True, True)
    assert staying.asked.wait(30)
    assert not staying.ended.is_set()
    staying.end()
    stopping.join(30)
    assert (staying.ended.is_set(), staying.cut_off.is_set(), staying.others_stay) == (True, False, False)
    assert not staying.task.returned.is_set()


def test_a_job_that_takes_too_long_to_leave_is_cancelled(pool: AgentPool) -> None:
    staying = Leaving(pool)
    pool.handover_seconds = 0.05
    pool.stop()
    assert staying.asked.is_set()
    assert staying.cut_off.is_set()


def test_without_time_to_leave_no_job_is_asked(pool: AgentPool) -> None:
    staying = Leaving(pool)
    pool.handover_seconds = 0
    pool.stop()
    assert staying.cut_off.is_set()
    assert not staying.asked.is_set()


@pytest.mark.parametrize("then", ["hurry", "stop"])
def test_another_signal_ends_the_waiting(pool: AgentPool, then: str) -> None:
    """Its handler runs in the middle of the first call: Celery's calls ``stop`` for some signals, ours the other."""
    staying = Leaving(pool)
    pool.hurry()  # what comes first cuts nothing off

    def send() -> None:
        staying.asked.wait(30)
        os.kill(os.getpid(), signal.SIGUSR1)
        staying.cut_off.wait(15)
        staying.end()

    before = signal.signal(signal.SIGUSR1, lambda *_: getattr(pool, then)())
    try:
        sender = threading.Thread(target=send)
        sender.start()
        pool.stop()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert staying.cut_off.is_set()


def test_a_second_signal_may_come_before_the_pool_is_told_of_the_first(pool: AgentPool) -> None:
    """Celery gives up its consumer before, and that waits for Redis."""
    staying = Leaving(pool)
    pool.hurry(stops=True)
    assert not staying.cut_off.is_set()
    stopping = stopped(pool)
    try:
        assert staying.cut_off.wait(15)
    finally:
        staying.end()
        stopping.join(30)


def test_a_revoke_ends_the_waiting_for_its_job(pool: AgentPool) -> None:
    staying, other = Leaving(pool), Leaving(pool)
    stopping = stopped(pool)
    assert staying.asked.wait(30)
    staying.job.stop(StopReason.KILL)
    assert staying.ended.wait(30)
    assert not other.cut_off.is_set()
    other.end()
    stopping.join(30)
    assert (staying.cut_off.is_set(), other.cut_off.is_set()) == (True, False)


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
