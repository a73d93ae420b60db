"""A race that is won stops its other candidates."""

from __future__ import annotations

from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import cancel_branch
from swarmq.models.branch import BranchState
from swarmq.store.store import Store

BEATEN = "Cancelled by collapse controller: "
"""How the reason of every branch begins that lost to another, or did badly (S10)."""

RACE_LOST = "won the race"


async def stop_losers(
    store: Store, dispatch: Dispatcher, swarm_id: str, subtask_id: str, winner: str, why: str = RACE_LOST
) -> int:
    """Cancel what still runs of a subtask's race; how many there were. Repeated, it finds none."""
    stopped = 0
    for branch in await store.branches.load_of(swarm_id, subtask_id):
        loses = branch.spec.candidate > 0 and branch.spec.id != winner and branch.state is not BranchState.DONE
        if loses and branch.cancel_reason is None:
            reason = f"{BEATEN}{winner} {why}"
            stopped += await cancel_branch(store, dispatch, swarm_id, branch.spec.id, reason)
            await store.audit.append(swarm_id, "race", "cancelled", {"branch": branch.spec.id, "reason": reason})
    return stopped
