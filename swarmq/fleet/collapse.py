"""``swarmq.collapse``: beat's tick for the collapse controller, one at a time across the fleet."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from swarmq.collapse.controller import Observed, look, observe, workers_of
from swarmq.errors import NotFoundError, SchemaError, StoreError
from swarmq.fleet.dispatch import Dispatcher, branch_task_id
from swarmq.fleet.runtime import Runtime

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
                canceller, now = RevokingCanceller(runtime.dispatch), await store.now()
                stopped += len(await look(store, canceller, one, health, now))
            except StoreError:
                raise
            except Exception:  # one swarm must not keep the others from being looked at
                log.exception("swarm not judged", swarm=one.swarm.spec.id)
        return stopped


async def _observed(runtime: Runtime, swarm_id: str) -> Observed | None:
    try:
        return await observe(runtime.store, swarm_id)
    except (NotFoundError, SchemaError) as error:  # gone meanwhile, or another version's
        log.warning("swarm not observed", swarm=swarm_id, error=str(error))
        return None
