"""What a swarm is compared with: the one that was named, or the newest that did the same with one agent."""

from __future__ import annotations

import structlog

from swarmq.errors import NotFoundError, SchemaError, UsageError, WorkspaceError
from swarmq.fleet.planning import model_of
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import repository_of
from swarmq.models.swarm import Baseline, SwarmRecord, SwarmResult
from swarmq.orchestrator.baseline import as_baseline, baseline_key, measured

log = structlog.get_logger()


async def find_baseline(runtime: Runtime, record: SwarmRecord) -> Baseline | None:
    """None where there is none. A figure that cannot be had costs nobody a result."""
    named = record.spec.options.baseline
    try:
        if named is None:
            key = await _key(runtime, record)
            return None if key is None else await runtime.store.baselines.find(key)
        result = (await runtime.store.swarms.load(named)).result
        return None if result is None else measured(result)
    except (NotFoundError, SchemaError) as error:
        log.warning("no baseline", error=str(error))
        return None


async def keep_baseline(runtime: Runtime, record: SwarmRecord, result: SwarmResult) -> None:
    """Where the swarm was one agent alone. Done twice it is the same; not done, a later swarm lacks a figure."""
    baseline = as_baseline(record, result)
    key = None if baseline is None else await _key(runtime, record)
    if baseline is not None and key is not None:
        await runtime.store.baselines.keep(key, baseline)


async def _key(runtime: Runtime, record: SwarmRecord) -> str | None:
    """None where the base, or the model, cannot be told."""
    repository, base = repository_of(runtime, record), record.spec.base_commit
    try:
        tree = None if repository is None or base is None else await repository.tree_of(base)
        return baseline_key(record, model_of(runtime, record), tree)
    except (WorkspaceError, UsageError):
        return None
