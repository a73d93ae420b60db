"""Equal work is done once (S8): a hit gives the text and re-applies the recorded commit; work under way is waited for.

Only for a leader that is at work under a live lease: it holds a worker's slot and waits for nobody, so that those who
wait, in slots of their own, cannot keep it from ending. A leader that is given back, paused, or lost with its worker
leads no longer, and one of the waiting branches does the work in the slot that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from swarmq.agent.narration import branch_event
from swarmq.errors import NotFoundError, SchemaError, StoreError, WorkspaceError
from swarmq.fleet.planning import model_of
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.standing import plan_of
from swarmq.models.branch import BranchSpec, Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.plan import Kind, Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.orchestrator.cache_key import cache_key
from swarmq.store.cache import CachedResult
from swarmq.store.flights import Joined
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()


class EqualWork:
    """What one holder of a branch has to do with equal work of others: it takes it, waits for it, or leads it."""

    def __init__(
        self,
        runtime: Runtime,
        swarm: SwarmRecord,
        subtask: Subtask,
        spec: BranchSpec,
        repository: SwarmRepository | None,
    ) -> None:
        self._runtime, self._swarm, self._subtask = runtime, swarm, subtask
        self._spec, self._repository = spec, repository
        self._who = f"{spec.swarm_id}/{spec.id}"
        self._flight, self._leads = "", False
        self._bypassed = swarm.spec.options.cache == "bypass" or spec.resolves is not None
        """A conflict is of two works: a resolver's is never equal to another's."""
        self.waiting = False

    async def find_or_go_on(self, token: int, tell: Callable[[str, Event], Awaitable[None]]) -> Outcome | None:
        """``find``, unless an earlier holder had begun: the caller is to go on with that."""
        transcripts = self._runtime.store.transcripts
        if token > 1 and await transcripts.load(self._spec.swarm_id, self._spec.id):
            await self.go_on()
            return None
        return await self.find(tell)

    async def find(self, tell: Callable[[str, Event], Awaitable[None]]) -> Outcome | None:
        """The outcome of equal work, with its commit on this branch's base; None: the caller is to do it itself.

        Waits while another branch is at it, which ``tell`` is told.
        """
        if self._bypassed:
            return None
        found = await self._of_earlier_swarms() or await self._own(tell)
        await self._runtime.store.swarms.add(
            self._spec.swarm_id, **{"cache_misses" if found is None else "cache_hits": 1}
        )
        if found is not None:
            await self._runtime.store.events.emit(
                self._spec.swarm_id, self._event(EventType.BRANCH_CACHED, source=found.cached_from)
            )
        return found

    async def go_on(self) -> None:
        """Lead again, for a holder that goes on with what another had begun; work that others lead is not dropped."""
        if not self._bypassed:
            self._flight, self._leads = await self._key(self._swarm), True
            await self.renew()

    async def renew(self) -> None:
        """With each heartbeat. Who finds another leading works on: what was paid for is not thrown away."""
        if self._leads:
            await self._runtime.store.flights.lead(self._flight, self._who, self._lease_seconds)

    async def leave(self) -> None:
        """The work has ended, or rests. A lead that cannot be given up runs out by itself."""
        self._leads = False
        if self._flight:
            with suppress(StoreError):
                await self._runtime.store.flights.leave(self._flight, self._who)

    async def keep(self, outcome: Outcome) -> None:
        """Keep a success. A cache that cannot be written costs a later swarm some time, and this one nothing."""
        if self._bypassed:
            return
        try:
            key = self._flight or await self._key(self._swarm)
            if self._repository is not None and outcome.commit is not None:
                await self._repository.keep_result(key, outcome.commit)
            await self._runtime.store.cache.put(key, _kept(outcome, self._who))
        except (WorkspaceError, StoreError) as error:
            log.warning("result not cached", error=str(error))

    @property
    def _lease_seconds(self) -> float:
        return self._runtime.settings.lease_seconds

    async def _of_earlier_swarms(self) -> Outcome | None:
        """Under the options of those that this swarm tries again: raising a limit spoils no success."""
        for asked in await _tried_before(self._runtime, self._swarm):
            key = await self._key(asked)
            found = await self._outcome(key, await self._runtime.store.cache.get(key))
            if found is not None:
                return found
        return None

    async def _own(self, tell: Callable[[str, Event], Awaitable[None]]) -> Outcome | None:
        self._flight = await self._key(self._swarm)  # known before it is joined: a cancel may meet the reply
        joined = await self._join()
        if joined.leader is not None:
            joined = await self._wait(joined.leader, tell)
        self._leads = joined.result is None
        return await self._outcome(self._flight, joined.result)

    async def _join(self, *, waited: bool = False) -> Joined:
        return await self._runtime.store.flights.join(self._flight, self._who, self._lease_seconds, waited=waited)

    async def _wait(self, leader: str, tell: Callable[[str, Event], Awaitable[None]]) -> Joined:
        """Until there is a result, or nobody that leads."""
        await self._runtime.store.swarms.add(self._spec.swarm_id, cache_waits=1)
        self.waiting = True
        try:
            async with self._runtime.store.flights.listen(self._flight) as bell:
                while True:
                    event = self._event(EventType.BRANCH_WAITING, leader=leader)
                    await tell(f"waiting for equal work in {leader}", event)
                    joined = await self._join(waited=True)
                    while joined.leader == leader:
                        await _rung(bell, self._runtime.settings.heartbeat_seconds)
                        joined = await self._join(waited=True)
                    if joined.leader is None:
                        return joined
                    leader = joined.leader
        finally:
            self.waiting = False

    async def _outcome(self, key: str, hit: CachedResult | None) -> Outcome | None:
        """What the hit brings to this branch; None where its commit is not there any more, or would change nothing."""
        if hit is None:
            return None
        commit = None
        if self._subtask.kind is Kind.EDIT and self._repository is not None and self._spec.base_commit is not None:
            commit = await self._repository.apply_result(key, self._spec.base_commit)
            if commit is None:
                return None
        return Outcome(
            exit=Exit.COMPLETED,
            text=hit.text,
            commit=commit,
            files=hit.files,
            cached_from=hit.source,
            spared=hit.spent,
            verify=hit.verify,
        )

    async def _key(self, swarm: SwarmRecord) -> str:
        tree = None
        if self._repository is not None and self._spec.base_commit is not None:
            tree = await self._repository.tree_of(self._spec.base_commit)
        by_name = {other.name: other.id for other in plan_of(swarm).subtasks}
        dependencies = {name: swarm.results[by_name[name]].text for name in self._subtask.dependencies}
        model, options = model_of(self._runtime, swarm), swarm.spec.options
        return cache_key(model, self._subtask, self._spec, options, dependencies, tree, swarm.spec.repo)

    def _event(self, type_: EventType, **data: object) -> Event:
        return branch_event(self._spec, type_, data)


def _kept(outcome: Outcome, source: str) -> CachedResult:
    return CachedResult(
        text=outcome.text,
        commit=outcome.commit,
        files=outcome.files,
        steps=outcome.steps,
        usage=outcome.usage,
        cost_usd=outcome.cost_usd,
        seconds=outcome.duration_seconds,
        verify=outcome.verify,
        source=source,
    )


async def _tried_before(runtime: Runtime, swarm: SwarmRecord) -> list[SwarmRecord]:
    """The swarm with the options of each of those that it tries again, the newest first, and its own ``verify``."""
    found: list[SwarmRecord] = []
    earlier_id = swarm.spec.retry_of
    while earlier_id is not None:
        try:
            earlier = (await runtime.store.swarms.load(earlier_id)).spec
        except (NotFoundError, SchemaError):  # its records are gone, or another version's: its successes are lost to us
            break
        options = earlier.options.model_copy(update={"verify": swarm.spec.options.verify})
        spec = swarm.spec.model_copy(update={"options": options})
        found.append(swarm.model_copy(update={"spec": spec}))
        earlier_id = earlier.retry_of
    return found


async def _rung(bell: asyncio.Event, at_most_seconds: float) -> None:
    """A leader that dies rings nobody, so that its lease has to be looked at as well."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_seconds):  # wait_for of Python 3.11 would swallow a cancel that meets a ring
            await bell.wait()
    bell.clear()
