"""One swarm, as a producer sees it: its records, its events, what it brought back, and how it is stopped."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from swarmq.client_connection import ClientConnection
from swarmq.errors import NotFoundError, UsageError
from swarmq.models.branch import BranchRecord
from swarmq.models.collapse import ScoreEntry
from swarmq.models.events import Event, EventType
from swarmq.models.options import changed_options
from swarmq.models.retry import Prospect
from swarmq.models.swarm import SwarmRecord, SwarmResult, SwarmSpec, SwarmState, SwarmStatus
from swarmq.store.shared import SharedResult
from swarmq.store.transcripts import Entry
from swarmq.workspace.publishing import fast_forward


def retry_of(record: SwarmRecord, anew: bool, changed: dict[str, Any]) -> SwarmSpec:
    """The same task and plan from the same commit, as a new swarm that knows the old one. OptionError."""
    from swarmq.fleet.accept import swarm_id_for

    task_id = str(uuid.uuid4())
    return record.spec.model_copy(
        update={
            "id": swarm_id_for(task_id),
            "celery_task_id": task_id,
            "plan": record.plan or record.spec.plan,
            "options": changed_options(record.spec.options, changed),
            "created_at": time.time(),
            "retry_of": record.spec.id,
            "anew": anew,
        }
    )


class AsyncSwarmHandle:
    """One swarm. Holds no state of its own: every call reads the records.

    ``joined``: submitting found this swarm by its idempotency key, and started nothing.
    """

    def __init__(self, connection: ClientConnection, swarm_id: str, *, joined: bool = False) -> None:
        self._connection, self.id, self.joined = connection, swarm_id, joined

    async def record(self) -> SwarmRecord:
        """Everything the store knows of the swarm."""
        return await self._connection.store.swarms.load(self.id)

    async def status(self) -> SwarmStatus:
        """A short, cheap view."""
        return await self._connection.store.swarms.status(self.id)

    async def result(self, timeout: float | None = None) -> SwarmResult:
        """Wait for the end. TimeoutError after ``timeout`` seconds; the swarm goes on."""
        async with asyncio.timeout(timeout):
            async for event in self._connection.store.events.follow(self.id):
                if event.type is EventType.SWARM_FINISHED:
                    break
        result = (await self.record()).result
        if result is None:
            raise NotFoundError(f"swarm {self.id} ended, but its result is gone (keep_days is over)")
        return result

    def events(self, after: str = "0") -> AsyncGenerator[Event, None]:
        """A live iterator from that event id on (exclusive); it ends with the swarm."""
        return self._connection.store.events.follow(self.id, after)

    async def cancel(self, reason: str = "cancelled by the user", branch: str | None = None) -> bool:
        """Stop the swarm, or one branch of it. False where it had ended already.

        True for a swarm: it ends as cancelled. True for a branch: it is told to stop, and may still complete if it was
        at its end. NotFoundError for a branch that does not exist.
        """
        from swarmq.fleet.ending import cancel_branch, cancel_swarm

        store, dispatch = self._connection.store, self._connection.dispatch
        reason = reason or "no reason given"  # an empty one means in the records that nothing is to be cancelled
        if branch is not None:
            return await cancel_branch(store, dispatch, self.id, branch, reason)
        return await cancel_swarm(store, dispatch, self.id, reason)

    async def pause(self, reason: str = "paused by the user") -> bool:
        """Start no new step; what runs is finished. False where the swarm had ended, or is being cancelled."""
        from swarmq.fleet.pausing import pause_swarm

        return await pause_swarm(self._connection.store, self.id, reason)

    async def resume(self) -> bool:
        """Go on where a pause left it. False where the swarm had ended, or is being cancelled."""
        from swarmq.fleet.pausing import resume_swarm

        return await resume_swarm(self._connection.store, self._connection.dispatch, self.id)

    async def branches(self) -> list[BranchRecord]:
        return await self._connection.store.branches.load_all(self.id)

    async def transcript(self, branch_id: str) -> list[Entry]:
        """The conversation of a branch so far. NotFoundError for a branch that does not exist."""
        await self._connection.store.branches.load(self.id, branch_id)
        return await self._connection.store.transcripts.load(self.id, branch_id)

    async def scores(self) -> Sequence[ScoreEntry]:
        """What the collapse controller found of the branches, look for look, where that was new."""
        return await self._connection.store.collapse.scores(self.id)

    async def shared(self) -> Sequence[SharedResult]:
        """What branches published for each other."""
        return await self._connection.store.shared.list(self.id)

    async def diff(self, branch: str | None = None, *, stat: bool = False) -> str:
        """The change of the swarm, or of one branch, against the commit that it started from."""
        record = await self.record()
        repository, base = self._connection.repository(record.spec), record.spec.base_commit or ""
        if branch is None:
            return await repository.diff(base, await repository.integration_commit(), stat=stat)
        found = await self._connection.store.branches.load(self.id, branch)
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
        record = await self._retryable()
        spec = retry_of(record, anew, options)
        swarm_id, joined = await self._connection.start(spec, known=record.spec.options)
        return AsyncSwarmHandle(self._connection, swarm_id, joined=joined)

    async def prospects(self, *, anew: bool = False, **options: Any) -> list[Prospect]:
        """What ``retry_failed`` with the same arguments will do with each subtask. The same errors."""
        from swarmq.fleet.continuing import prospects

        record = await self._retryable()
        cache = changed_options(record.spec.options, options).cache
        return await prospects(self._connection.store, record, anew=anew, cache=cache)

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
