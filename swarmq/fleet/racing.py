"""A race that is won, or over, stops its other candidates."""

from __future__ import annotations

from collections.abc import Iterable

from swarmq.collapse.deadlines import overdue_winner
from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import cancel_branch
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE
from swarmq.models.swarm import SwarmRecord
from swarmq.store.store import Store

RACE_LOST = "won the race"
BETTER = "had the best score at the race's deadline"


async def stop_losers(
    store: Store, dispatch: Dispatcher, swarm_id: str, subtask_id: str, winner: str, why: str = RACE_LOST
) -> int:
    """Cancel what still runs of a subtask's race; how many there were. Repeated, it finds none."""
    stopped = 0
    for branch in await store.branches.load_of(swarm_id, subtask_id):
        loses = branch.spec.candidate > 0 and branch.spec.id != winner and branch.state is not BranchState.DONE
        if loses and branch.cancel_reason is None:
            reason = f"{CANCELLED_BY_COLLAPSE}{winner} {why}"
            stopped += await cancel_branch(store, dispatch, swarm_id, branch.spec.id, reason)
            await store.audit.append(swarm_id, "race", "cancelled", {"branch": branch.spec.id, "reason": reason})
    return stopped


async def end_overdue(
    store: Store, dispatch: Dispatcher, swarm: SwarmRecord, branches: Iterable[BranchRecord], now: float
) -> int:
    """End the races whose deadline is over, or whose winner died before it had stopped the others."""
    of_subtask: dict[str, list[BranchRecord]] = {}
    for branch in branches:
        if branch.spec.candidate:
            of_subtask.setdefault(branch.spec.subtask_id, []).append(branch)
    races = await store.races.load(swarm.spec.id) if of_subtask else {}
    stopped = 0
    for subtask_id, candidates in of_subtask.items():
        subtask = swarm.plan.subtask(subtask_id) if swarm.plan is not None else None
        own = subtask.race_deadline_seconds if subtask is not None else None
        race = races.get(subtask_id)
        deadline_seconds = own or swarm.spec.options.race_deadline_seconds
        winner = overdue_winner(candidates, race.winner if race is not None else None, deadline_seconds, now)
        if winner is None:
            continue
        race = race or await store.races.decide(swarm.spec.id, subtask_id, winner)
        why = RACE_LOST if race.by == "verify" else BETTER
        stopped += await stop_losers(store, dispatch, swarm.spec.id, subtask_id, race.winner, why)
    return stopped
