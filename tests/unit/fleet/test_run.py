"""A task's coroutine in a process of its own, as in a prefork child."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from swarmq.fleet import run as run_module
from swarmq.fleet.run import run


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """The signals that would have ended the child."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, before)
    run_module._loops.pop(os.getpid()).close()


def test_a_task_that_ends_by_itself_leaves_the_signal_as_it_was(ended: list[int]) -> None:
    async def work() -> int:
        return 7

    handler = signal.getsignal(signal.SIGTERM)
    assert run(work()) == 7
    assert signal.getsignal(signal.SIGTERM) is handler
    assert ended == []


def test_a_revoke_lets_the_task_clean_up_before_the_child_ends(ended: list[int]) -> None:
    steps: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            os.kill(os.getpid(), signal.SIGTERM)  # once more, in the middle of the clean-up
            await asyncio.sleep(0.01)
            steps.append("cleaned up")
            raise

    with pytest.raises(asyncio.CancelledError):
        run(work())
    assert (steps, ended) == (["cleaned up"], [signal.SIGTERM])
