"""What a producer's calls go through: the records in Redis, and messages to the workers by Celery.

Most calls only read records. So Celery is imported with the first message that is sent, and what checks a swarm with
the first one that is submitted: without them ``swarmq ls`` begins in two thirds of the processor time.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

from swarmq.errors import UsageError
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.swarm import SwarmSpec
from swarmq.settings import Settings, load_settings
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.workspace.swarm_repository import SwarmRepository

if TYPE_CHECKING:
    from swarmq.fleet.dispatch import Dispatcher

_log = logging.getLogger(__name__)


class ClientConnection:
    """Redis directly, the workers through Celery. Without a URL the embedded stack is used."""

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._url = url or self.settings.broker()
        self._embedded = self._url is None
        self._store: Store | None = None
        self._dispatch: Dispatcher | None = None

    async def connect(self, *, submits: bool = False) -> None:
        """Only who ``submits`` work brings keys and endpoints to the embedded workers: they restart for new ones."""
        if self._embedded and (submits or self._store is None):
            from swarmq.devstack import ensure  # only who uses it pays for it

            info = await asyncio.to_thread(ensure, self.settings, bring_variables=submits)
            self._url = info.redis_url
            if info.notice:
                _log.warning(info.notice)
        if self._store is not None:
            return
        assert self._url is not None
        settings = self.settings
        gate = Gate.open(
            self._url, retry_seconds=settings.redis_retry_seconds, max_connections=settings.redis_max_connections
        )
        self._store = Store(gate)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.gate.aclose()
        if self._dispatch is not None:
            await asyncio.to_thread(self._dispatch.app.close)
        self._store = self._dispatch = None

    @property
    def store(self) -> Store:
        if self._store is None:
            raise UsageError("the client is not connected: use it in a 'with' block")
        return self._store

    @property
    def dispatch(self) -> Dispatcher:
        if self._dispatch is None:
            placement = self.store.swarms.placement
            assert self._url is not None  # a connected client has one
            from swarmq.fleet.build import build_app
            from swarmq.fleet.dispatch import Dispatcher

            self._dispatch = Dispatcher(build_app(self.settings, self._url), placement)
        return self._dispatch

    def repository(self, spec: SwarmSpec) -> SwarmRepository:
        """The swarm's private clone; UsageError for a swarm without files."""
        if spec.repo is None or spec.base_commit is None:
            raise UsageError(f"swarm {spec.id} has no repository")
        return SwarmRepository(self.settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)

    async def start(
        self, spec: SwarmSpec, *, known: SwarmOptions | None = None, plan_usage: Usage | None = None
    ) -> tuple[str, bool]:
        """Record the swarm and have it planned: its id, and whether an earlier one with its idempotency key was joined.

        ``known`` are options whose models need no check; ``plan_usage`` is what making its plan has used.
        """
        from swarmq.fleet.named_models import with_sound_models
        from swarmq.fleet.spending import count_planning

        spec = with_sound_models(self.settings, spec, known, embedded=self._embedded)
        await self.connect(submits=True)
        if spec.options.baseline is not None:
            await self.store.swarms.load(spec.options.baseline)  # told now, and not as a figure that is missing later
        swarm_id = await self.store.swarms.create(spec)
        joined = swarm_id != spec.id  # the idempotency key's first swarm, which is under way or has ended
        if not joined:
            await count_planning(self.store.budgets, self.settings, spec, plan_usage)
            await self.dispatch.plan(swarm_id)
        return swarm_id, joined
