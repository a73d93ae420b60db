"""The client for synchronous code: the methods of AsyncClient, run on a background loop. No second implementation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from swarmq.background import BackgroundLoop
from swarmq.client import AsyncClient, AsyncSwarmHandle
from swarmq.models.events import Event
from swarmq.models.messages import Usage
from swarmq.models.plan import Plan
from swarmq.models.retry import Prospect
from swarmq.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def _synced(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The same method for the sync class: runs the async object's one on the client's loop."""

    @functools.wraps(method)
    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, self._background.run(method(self._inner, *args, **kwargs)))

    return cast(Callable[Concatenate[Any, P], T], call)


class SwarmHandle:
    """One swarm, for synchronous code; see AsyncSwarmHandle."""

    def __init__(self, background: BackgroundLoop, inner: AsyncSwarmHandle) -> None:
        self._background, self._inner = background, inner
        self.id, self.joined = inner.id, inner.joined

    record = _synced(AsyncSwarmHandle.record)
    status = _synced(AsyncSwarmHandle.status)
    result = _synced(AsyncSwarmHandle.result)
    cancel = _synced(AsyncSwarmHandle.cancel)
    pause = _synced(AsyncSwarmHandle.pause)
    resume = _synced(AsyncSwarmHandle.resume)
    branches = _synced(AsyncSwarmHandle.branches)
    transcript = _synced(AsyncSwarmHandle.transcript)
    scores = _synced(AsyncSwarmHandle.scores)
    shared = _synced(AsyncSwarmHandle.shared)
    diff = _synced(AsyncSwarmHandle.diff)
    merge = _synced(AsyncSwarmHandle.merge)

    def retry_failed(self, *, anew: bool = False, **options: Any) -> SwarmHandle:
        """Submit the same plan on the same base as a new swarm; see AsyncSwarmHandle.retry_failed."""
        return SwarmHandle(self._background, self._background.run(self._inner.retry_failed(anew=anew, **options)))

    def prospects(self, *, anew: bool = False, **options: Any) -> list[Prospect]:
        """What ``retry_failed`` with the same arguments will do with each subtask."""
        return self._background.run(self._inner.prospects(anew=anew, **options))

    def events(self, after: str = "0") -> Iterator[Event]:
        """A live iterator from that event id on (exclusive); it ends with the swarm."""
        events = self._inner.events(after)

        async def following() -> Event | None:
            return await anext(events, None)

        try:
            while (event := self._background.run(following())) is not None:
                yield event
        finally:
            if not self._background.loop.is_closed():
                self._background.run(events.aclose())


class Client:
    """The client for synchronous code; see AsyncClient. Use it in a ``with`` block, or call ``close``."""

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        self._inner = AsyncClient(url, settings=settings)
        self._background = BackgroundLoop("swarmq-client")

    list = _synced(AsyncClient.list)
    workers = _synced(AsyncClient.workers)
    cache_stats = _synced(AsyncClient.cache_stats)
    cache_clear = _synced(AsyncClient.cache_clear)
    gc = _synced(AsyncClient.gc)

    def submit(
        self,
        task: str | Plan,
        *,
        repo: str | Path | None = None,
        plan: Plan | None = None,
        plan_usage: Usage | None = None,
        context: str = "",
        **options: Any,
    ) -> SwarmHandle:
        """Record the swarm and have it planned; AsyncClient.submit tells what is raised before anything is started."""
        coroutine = self._inner.submit(task, repo=repo, plan=plan, plan_usage=plan_usage, context=context, **options)
        return SwarmHandle(self._background, self._background.run(coroutine))

    def get(self, swarm_id: str) -> SwarmHandle:
        """The swarm of that id, of a unique beginning of it, or the newest one for ``last``."""
        return SwarmHandle(self._background, self._background.run(self._inner.get(swarm_id)))

    def close(self) -> None:
        if not self._background.loop.is_closed():
            self._background.run(self._inner.aclose())
            self._background.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
