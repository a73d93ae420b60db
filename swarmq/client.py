"""The producer's side: submit a task, follow it, fetch what it brought back.

``AsyncClient`` is the implementation; ``swarmq.sync_client.Client`` runs the same methods on a background loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarmq.client_connection import ClientConnection
from swarmq.errors import NotFoundError
from swarmq.handle import AsyncSwarmHandle
from swarmq.models.messages import Usage
from swarmq.models.plan import Plan
from swarmq.models.swarm import SwarmStatus

__all__ = ["AsyncClient", "AsyncSwarmHandle"]


class AsyncClient(ClientConnection):
    """Talks to Redis directly and to the workers through Celery. Without a URL the embedded stack is used."""

    async def submit(
        self,
        task: str | Plan,
        *,
        repo: str | Path | None = None,
        plan: Plan | None = None,
        plan_usage: Usage | None = None,
        context: str = "",
        **options: Any,
    ) -> AsyncSwarmHandle:
        """Record the swarm and have it planned; what making ``plan`` has used counts as the swarm's. What is wrong with
        the request is raised here, and nothing is started: ``with_sound_models`` says what is known of models."""
        from swarmq.fleet.accept import Submission, checked_spec, swarm_id_for

        if isinstance(task, Plan):
            plan, task = task, "; ".join(subtask.name for subtask in task.subtasks)
        task_id = str(uuid.uuid4())
        submission = Submission(
            task, context or None, str(repo) if repo else None, plan.model_dump(mode="json") if plan else None, options
        )
        spec = await checked_spec(submission, swarm_id_for(task_id), task_id)
        swarm_id, joined = await self.start(spec, plan_usage=plan_usage)
        return AsyncSwarmHandle(self, swarm_id, joined=joined)

    async def get(self, swarm_id: str) -> AsyncSwarmHandle:
        """The swarm of that id, of a unique beginning of it, or the newest one for ``last``."""
        await self.connect()
        if swarm_id in ("last", "-"):
            newest = await self.store.swarms.list(1, all_readable=True)
            if not newest:
                raise NotFoundError("there is no swarm yet")
            return AsyncSwarmHandle(self, newest[0].id)
        return AsyncSwarmHandle(self, await self.store.swarms.resolve(swarm_id))

    async def list(self, limit: int = 50) -> Sequence[SwarmStatus]:
        """Newest first."""
        await self.connect()
        return await self.store.swarms.list(limit)

    async def workers(self) -> Sequence[dict[str, Any]]:
        await self.connect()
        return await self.store.workers.list()

    async def cache_stats(self) -> dict[str, int]:
        await self.connect()
        return await self.store.cache.stats()

    async def cache_clear(self) -> int:
        await self.connect()
        return await self.store.cache.clear()

    async def gc(self, *, dry_run: bool = False) -> Sequence[str]:
        """Remove what is past its time on this machine; returns a line for each thing."""
        from swarmq.fleet.gc import collect_garbage

        await self.connect()
        return await collect_garbage(self.store, self.settings, dry_run=dry_run)
