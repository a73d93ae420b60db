"""One event loop on a thread of its own: for the sync client and for the tasks of a worker process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STALL_SECONDS = 0.1
"""A callback that holds the loop longer than this is a bug: every other agent of the process waits for it."""
_PROBE_SECONDS = 0.25


class BackgroundLoop:
    """Starts at once; ``stop`` cancels what still runs. Safe to use from any thread but its own."""

    def __init__(self, name: str, *, watch_stalls: bool = False) -> None:
        self.loop = asyncio.new_event_loop()
        self.longest_stall_seconds = 0.0
        self.at_stop: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        if watch_stalls:
            self._watch = asyncio.run_coroutine_threadsafe(self._watch_stalls(), self.loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end from another thread; an interrupt of the waiting thread cancels the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Cancel all tasks, run ``at_stop``, stop the loop and join the thread. May be called twice.

        A coroutine that does not give way within the time is left behind: the process is about to end.
        """
        if self.loop.is_closed():
            return
        closing = asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop)
        try:
            closing.result(timeout_seconds)
        except TimeoutError:
            closing.cancel()
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        if closing.done() and not closing.cancelled():
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in self.at_stop:
            await close()

    async def _watch_stalls(self) -> None:
        while True:
            before = self.loop.time()
            await asyncio.sleep(_PROBE_SECONDS)
            late = self.loop.time() - before - _PROBE_SECONDS
            self.longest_stall_seconds = max(self.longest_stall_seconds, late)
