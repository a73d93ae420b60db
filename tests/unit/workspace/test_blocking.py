from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from swarmq.workspace import blocking
from swarmq.workspace.blocking import run_blocking


async def test_runs_in_a_thread_with_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")

    def look() -> tuple[str, str]:
        return variable.get(), threading.current_thread().name

    value, thread = await run_blocking(look)

    assert value == "mine"
    assert thread.startswith("swarmq-blocking")


async def test_passes_arguments_and_exceptions() -> None:
    assert await run_blocking(sorted, [2, 1], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        await run_blocking(divmod, 1, 0)


async def test_never_more_threads_than_configured() -> None:
    blocking.configure(2)
    gate, running, most, lock = threading.Event(), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                gate.set()
        gate.wait(5)
        with lock:
            running -= 1

    try:
        await asyncio.gather(*(run_blocking(work) for _ in range(8)))
        assert most == 2
    finally:
        blocking.configure(blocking.DEFAULT_THREADS)


async def test_a_closed_pool_is_made_again() -> None:
    await run_blocking(int)
    blocking.close()
    assert await run_blocking(int) == 0


def test_refuses_no_threads() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        blocking.configure(0)
