"""The producer's side: submit a task, follow it, fetch what it brought back.

``AsyncClient`` is the implementation; ``swarmq.sync_client.Client`` runs the same methods on a background loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Self

from swarmq.errors import NotFoundError, UsageError
from swarmq.fleet.accept import Submission, checked_spec, swarm_id_for
from swarmq.fleet.build import build_app
from swarmq.fleet.continuing import prospects
from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import cancel_branch, cancel_swarm
from swarmq.fleet.gc import collect_garbage
from swarmq.fleet.named_models import with_sound_models
from swarmq.fleet.pausing import pause_swarm, resume_swarm
from swarmq.fleet.spending import count_planning
from swarmq.models.branch import BranchRecord
from swarmq.models.collapse import ScoreEntry
from swarmq.models.events import Event, EventType
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions, changed_options
from swarmq.models.plan import Plan
from swarmq.models.retry import Prospect
from swarmq.models.swarm import SwarmRecord, SwarmResult, SwarmSpec, SwarmState, SwarmStatus
from swarmq.settings import Settings, load_settings
from swarmq.store.connection import Gate
from swarmq.store.shared import SharedResult
from swarmq.store.store import Store
from swarmq.store.transcripts import Entry
from swarmq.workspace.publishing import fast_forward
from swarmq.workspace.swarm_repository import SwarmRepository

_log = logging.getLogger(__name__)


class AsyncSwarmHandle:
    """One swarm. Holds no state of its own: every call reads the records.

    ``joined``: submitting found this swarm by its idempotency key, and started nothing.
    """

    def __init__(self, client: AsyncClient, swarm_id: str, *, joined: bool = False) -> None:
        self._client, self.id, self.joined = client, swarm_id, joined

    async def record(self) -> SwarmRecord:
        """Everything the store knows of the swarm."""
        return await self._client.store.swarms.load(self.id)

    async def status(self) -> SwarmStatus:
        """A short, cheap view."""
        return await self._client.store.swarms.status(self.id)

    async def result(self, timeout: float | None = None) -> SwarmResult:
        """Wait for the end. TimeoutError after ``timeout`` seconds; the swarm goes on."""
        async with asyncio.timeout(timeout):
            async for event in self._client.store.events.follow(self.id):
                if event.type is EventType.SWARM_FINISHED:
                    break
        result = (await self.record()).result
        if result is None:
            raise NotFoundError(f"swarm {self.id} ended, but its result is gone (keep_days is over)")
        return result

    def events(self, after: str = "0") -> AsyncGenerator[Event, None]:
        """A live iterator from that event id on (exclusive); it ends with the swarm."""
        return self._client.store.events.follow(self.id, after)

    async def cancel(self, reason: str = "cancelled by the user", branch: str | None = None) -> bool:
        """Stop the swarm, or one branch of it. False where it had ended already.

        True for a swarm: it ends as cancelled. True for a branch: it is told to stop, and may still complete if it was
        at its end. NotFoundError for a branch that does not exist.
        """
        store, dispatch = self._client.store, self._client.dispatch
        reason = reason or "no reason given"  # an empty one means in the records that nothing is to be cancelled
        if branch is not None:
            return await cancel_branch(store, dispatch, self.id, branch, reason)
        return await cancel_swarm(store, dispatch, self.id, reason)

    async def pause(self, reason: str = "paused by the user") -> bool:
        """Start no new step; what runs is finished. False where the swarm had ended, or is being cancelled."""
        return await pause_swarm(self._client.store, self.id, reason)

    async def resume(self) -> bool:
        """Go on where a pause left it. False where the swarm had ended, or is being cancelled."""
        return await resume_swarm(self._client.store, self._client.dispatch, self.id)

    async def branches(self) -> list[BranchRecord]:
        return await self._client.store.branches.load_all(self.id)

    async def transcript(self, branch_id: str) -> list[Entry]:
        """The conversation of a branch so far. NotFoundError for a branch that does not exist."""
        await self._client.store.branches.load(self.id, branch_id)
        return await self._client.store.transcripts.load(self.id, branch_id)

    async def scores(self) -> Sequence[ScoreEntry]:
        """What the collapse controller found of the branches, look for look, where that was new."""
        return await self._client.store.collapse.scores(self.id)

    async def shared(self) -> Sequence[SharedResult]:
        """What branches published for each other."""
        return await self._client.store.shared.list(self.id)

    async def diff(self, branch: str | None = None, *, stat: bool = False) -> str:
        """The change of the swarm, or of one branch, against the commit that it started from."""
        record = await self.record()
        repository, base = self._client.repository(record.spec), record.spec.base_commit or ""
        if branch is None:
            return await repository.diff(base, await repository.integration_commit(), stat=stat)
        found = await self._client.store.branches.load(self.id, branch)
        outcome = found.outcome
        tip = found.checkpoint if outcome is None else outcome.commit or outcome.checkpoint
        return await repository.diff(found.spec.base_commit or base, tip or found.spec.base_commit or base, stat=stat)

    async def merge(self, into: str | None = None) -> str:
        """Fast-forward ``into`` (default: what was checked out at submit) to the result; returns its name."""
        record = await self.record()
        if record.result is None:
            raise UsageError(f"swarm {self.id} has not ended yet; follow it with 'swarmq watch {self.id}'")
        if record.spec.repo is None or record.result.commit is None:
            raise UsageError(f"swarm {self.id} has no result branch to merge")
        target = into or record.spec.base_branch
        if target is None:
            raise UsageError("the checkout was detached at submit: name the branch with --into")
        await fast_forward(Path(record.spec.repo), target, record.result.commit)
        return target

    async def retry_failed(self, *, anew: bool = False, **options: Any) -> AsyncSwarmHandle:
        """Submit the same plan on the same base as a new swarm, with ``options`` changed.

        What succeeded comes from the result cache; what did not goes on with its conversation and its files, unless
        that makes no sense or ``anew`` is asked for. UsageError for a swarm that runs or has succeeded.
        """
        return await self._client.resubmit(await self._retryable(), anew=anew, **options)

    async def prospects(self, *, anew: bool = False, **options: Any) -> list[Prospect]:
        """What ``retry_failed`` with the same arguments will do with each subtask. The same errors."""
        record = await self._retryable()
        cache = changed_options(record.spec.options, options).cache
        return await prospects(self._client.store, record, anew=anew, cache=cache)

    async def _retryable(self) -> SwarmRecord:
        record = await self.record()
        if not record.state.final:
            raise UsageError(
                f"swarm {self.id} is {record.state}: wait for its end with 'swarmq watch {self.id}', "
                f"or stop it with 'swarmq cancel {self.id}'"
            )
        if record.state is SwarmState.SUCCEEDED:
            raise UsageError(f"swarm {self.id} succeeded: there is nothing to retry")
        return record


class AsyncClient:
    """Talks to Redis directly and to the workers through Celery. Without a URL the embedded stack is used."""

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._url = url or self.settings.broker()
        self._embedded = self._url is None
        self._store: Store | None = None
        self._dispatch: Dispatcher | None = None

    async def _connect(self, *, submits: bool = False) -> None:
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
        self._dispatch = Dispatcher(build_app(settings, self._url), self._store.swarms.placement)

    async def __aenter__(self) -> Self:
        await self._connect()
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
            raise UsageError("the client is not connected: use it in a 'with' block")
        return self._dispatch

    def repository(self, spec: SwarmSpec) -> SwarmRepository:
        """The swarm's private clone; UsageError for a swarm without files."""
        if spec.repo is None or spec.base_commit is None:
            raise UsageError(f"swarm {spec.id} has no repository")
        return SwarmRepository(self.settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)

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
        if isinstance(task, Plan):
            plan, task = task, "; ".join(subtask.name for subtask in task.subtasks)
        task_id = str(uuid.uuid4())
        submission = Submission(
            task, context or None, str(repo) if repo else None, plan.model_dump(mode="json") if plan else None, options
        )
        return await self._start(await checked_spec(submission, swarm_id_for(task_id), task_id), None, plan_usage)

    async def resubmit(self, record: SwarmRecord, *, anew: bool = False, **options: Any) -> AsyncSwarmHandle:
        """The same task and plan from the same commit, as a new swarm that knows the old one. OptionError."""
        task_id = str(uuid.uuid4())
        changes = {
            "id": swarm_id_for(task_id),
            "celery_task_id": task_id,
            "plan": record.plan or record.spec.plan,
            "options": changed_options(record.spec.options, options),
            "created_at": time.time(),
            "retry_of": record.spec.id,
            "anew": anew,
        }
        return await self._start(record.spec.model_copy(update=changes), record.spec.options, None)

    async def _start(self, spec: SwarmSpec, known: SwarmOptions | None, plan_usage: Usage | None) -> AsyncSwarmHandle:
        spec = with_sound_models(self.settings, spec, known, embedded=self._embedded)
        await self._connect(submits=True)
        if spec.options.baseline is not None:
            await self.store.swarms.load(spec.options.baseline)  # told now, and not as a figure that is missing later
        swarm_id = await self.store.swarms.create(spec)
        joined = swarm_id != spec.id  # the idempotency key's first swarm, which is under way or has ended
        if not joined:
            await count_planning(self.store.budgets, self.settings, spec, plan_usage)
            await self.dispatch.plan(swarm_id)
        return AsyncSwarmHandle(self, swarm_id, joined=joined)

    async def get(self, swarm_id: str) -> AsyncSwarmHandle:
        """The swarm of that id, of a unique beginning of it, or the newest one for ``last``."""
        await self._connect()
        if swarm_id in ("last", "-"):
            newest = await self.store.swarms.list(1)
            if not newest:
                raise NotFoundError("there is no swarm yet")
            return AsyncSwarmHandle(self, newest[0].id)
        return AsyncSwarmHandle(self, await self.store.swarms.resolve(swarm_id))

    async def list(self, limit: int = 50) -> Sequence[SwarmStatus]:
        """Newest first."""
        await self._connect()
        return await self.store.swarms.list(limit)

    async def workers(self) -> Sequence[dict[str, Any]]:
        await self._connect()
        return await self.store.workers.list()

    async def cache_stats(self) -> dict[str, int]:
        await self._connect()
        return await self.store.cache.stats()

    async def cache_clear(self) -> int:
        await self._connect()
        return await self.store.cache.clear()

    async def gc(self, *, dry_run: bool = False) -> Sequence[str]:
        """Remove what is past its time on this machine; returns a line for each thing."""
        await self._connect()
        return await collect_garbage(self.store, self.settings, dry_run=dry_run)
