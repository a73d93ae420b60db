"""How a holder begins with a branch, wherever it is going to run; and whether it is still the holder."""

from __future__ import annotations

import structlog

from swarmq.agent.narration import branch_event
from swarmq.errors import LeaseLost
from swarmq.fleet import continuing
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchSpec, Observation
from swarmq.models.events import EventType
from swarmq.models.plan import Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.store.branches import Claim
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()


async def announce(runtime: Runtime, claim: Claim, spec: BranchSpec, subtask: Subtask) -> None:
    """Tell who has the branch now, and from whom it was taken over."""
    started = {"worker": runtime.worker, "specialty": subtask.specialty, "delivery": claim.token}
    events = [branch_event(spec, EventType.BRANCH_STARTED, started)]
    if claim.took_over:
        await runtime.store.swarms.add(spec.swarm_id, lost_leases=1)
        events.insert(0, branch_event(spec, EventType.LEASE_LOST, {"worker": claim.lost_worker}))
    await runtime.store.events.emit(spec.swarm_id, *events)


async def look_back(
    runtime: Runtime, claim: Claim, swarm: SwarmRecord, subtask: Subtask, repository: SwarmRepository | None
) -> continuing.Continuation | None:
    """What the branch of the swarm that is tried again had come to, its checkpoint noted as this branch's; None where
    there is nothing to go on with, or this branch has a transcript of its own already."""
    if claim.record is None:
        return None
    spec = claim.record.spec
    found = await continuing.look_back(runtime.store, swarm, subtask, spec, claim.token, repository)
    if not isinstance(found, continuing.Anew):
        return found
    log.info("branch starts anew", source=found.source, reason=found.reason)
    event = branch_event(spec, EventType.BRANCH_ANEW, {"source": found.source, "reason": found.reason})
    await runtime.store.events.emit(spec.swarm_id, event)
    return None


async def require_lease(runtime: Runtime, spec: BranchSpec, token: int, observation: Observation) -> None:
    """LeaseLost where another holds it now: before something is removed that this one may have taken over."""
    lease_seconds = runtime.settings.lease_seconds
    renewal = await runtime.store.branches.renew(spec.swarm_id, spec.id, token, lease_seconds, observation)
    if not renewal.alive:
        raise LeaseLost(f"branch {spec.id} of swarm {spec.swarm_id} has another holder")
