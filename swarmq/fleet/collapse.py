"""``swarmq.collapse``: beat's tick for the collapse controller, one at a time across the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from swarmq.collapse.controller import Observed, look, observe, workers_of
from swarmq.errors import NotFoundError, SchemaError, StoreError
from swarmq.fleet.dispatch import Dispatcher, branch_task_id
from swarmq.fleet.racing import end_overdue
from swarmq.fleet.runtime import Runtime
from swarmq.models.pods import PodHealth

log = structlog.get_logger()


class RevokingCanceller:
    """Stops branches by revoking their tasks, as Flower's terminate button does."""

    def __init__(self, dispatch: Dispatcher) -> None:
        self._dispatch = dispatch

    async def stop(self, swarm_id: str, branch_ids: Sequence[str]) -> None:
        await self._dispatch.terminate([branch_task_id(swarm_id, branch_id) for branch_id in branch_ids])


async def collapse(runtime: Runtime) -> int:
    """Look at every unfinished swarm; returns how many branches were stopped. Does nothing while another one looks."""
    store = runtime.store
    async with store.collapse.lock(runtime.settings.lease_seconds) as alone:
        if not alone:
            return 0
        observed = [one for swarm_id in await store.swarms.active() if (one := await _observed(runtime, swarm_id))]
        health = await runtime.pods.health_of(workers_of(observed))
        stopped = 0
        for one in observed:
            try:
                stopped += await _look(runtime, one, health)
            except StoreError:
                raise
            except Exception:  # one swarm must not keep the others from being looked at
                log.exception("swarm not judged", swarm=one.swarm.spec.id)
        return stopped


async def _look(runtime: Runtime, observed: Observed, health: Mapping[str, PodHealth]) -> int:
    """Races that are over first: their losers need not be judged any more."""
    store, dispatch = runtime.store, runtime.dispatch
    now, stopped = await store.now(), 0
    if not observed.stands:
        stopped += await end_overdue(store, dispatch, observed.swarm, observed.branches, now)
    return stopped + len(await look(store, RevokingCanceller(dispatch), observed, health, now))


async def _observed(runtime: Runtime, swarm_id: str) -> Observed | None:
    try:
        return await observe(runtime.store, swarm_id)
    except (NotFoundError, SchemaError) as error:  # gone meanwhile, or another version's
        log.warning("swarm not observed", swarm=swarm_id, error=str(error))
        return None
