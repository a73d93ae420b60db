"""Equal earlier work: a hit gives the text and re-applies the recorded commit (S8)."""

from __future__ import annotations

import time

import structlog

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
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()


async def _key(
    runtime: Runtime, swarm: SwarmRecord, subtask: Subtask, spec: BranchSpec, repository: SwarmRepository | None
) -> str:
    tree = None
    if repository is not None and spec.base_commit is not None:
        tree = await repository.tree_of(spec.base_commit)
    plan = plan_of(swarm)
    by_name = {other.name: other.id for other in plan.subtasks}
    dependencies = {name: swarm.results[by_name[name]].text for name in subtask.dependencies}
    return cache_key(model_of(runtime, swarm), subtask, swarm.spec.options, dependencies, tree)


async def _tried_before(runtime: Runtime, swarm: SwarmRecord) -> list[SwarmRecord]:
    """The swarm, then the same with the options of those that it tries again: raising a limit spoils no success."""
    found, earlier_id = [swarm], swarm.spec.retry_of
    while earlier_id is not None:
        try:
            earlier = (await runtime.store.swarms.load(earlier_id)).spec
        except (NotFoundError, SchemaError):  # its records are gone, or another version's: its successes are lost to us
            break
        spec = swarm.spec.model_copy(update={"options": earlier.options})
        found.append(swarm.model_copy(update={"spec": spec}))
        earlier_id = earlier.retry_of
    return found


async def cached_outcome(
    runtime: Runtime, swarm: SwarmRecord, subtask: Subtask, spec: BranchSpec, repository: SwarmRepository | None
) -> Outcome | None:
    """The outcome of equal earlier work with its commit on this branch's base; None for a miss."""
    if swarm.spec.options.cache == "bypass":
        return None
    hit = commit = None
    for asked in await _tried_before(runtime, swarm):
        key = await _key(runtime, asked, subtask, spec, repository)
        hit = await runtime.store.cache.get(key)
        if hit is not None and subtask.kind is Kind.EDIT and repository is not None and spec.base_commit is not None:
            commit = await repository.apply_result(key, spec.base_commit)
            if commit is None:  # a hit that would apply nothing is a miss
                hit = None
        if hit is not None:
            break
    await runtime.store.swarms.add(spec.swarm_id, **{"cache_misses" if hit is None else "cache_hits": 1})
    if hit is None:
        return None
    await runtime.store.events.emit(
        spec.swarm_id,
        Event(
            type=EventType.BRANCH_CACHED,
            at=time.time(),
            swarm=spec.swarm_id,
            subtask=spec.subtask_id,
            branch=spec.id,
            data={"source": hit.source},
        ),
    )
    return Outcome(exit=Exit.COMPLETED, text=hit.text, commit=commit, files=hit.files, cached_from=hit.source)


async def keep_result(
    runtime: Runtime,
    swarm: SwarmRecord,
    subtask: Subtask,
    spec: BranchSpec,
    outcome: Outcome,
    repository: SwarmRepository | None,
) -> None:
    """Keep a success. A cache that cannot be written costs a later swarm some time, and this one nothing."""
    if swarm.spec.options.cache == "bypass":
        return
    try:
        key = await _key(runtime, swarm, subtask, spec, repository)
        if repository is not None and outcome.commit is not None:
            await repository.keep_result(key, outcome.commit)
        await runtime.store.cache.put(
            key,
            CachedResult(
                text=outcome.text,
                commit=outcome.commit,
                files=outcome.files,
                steps=outcome.steps,
                usage=outcome.usage,
                source=f"{spec.swarm_id}/{spec.id}",
            ),
        )
    except (WorkspaceError, StoreError) as error:
        log.warning("result not cached", error=str(error))
