"""A race that is won, or over, stops its other candidates."""

from __future__ import annotations

from collections.abc import Iterable

from swarmq.collapse.deadlines import overdue_winner
from swarmq.fleet.dispatch import Dispatcher
from swarmq.fleet.ending import cancel_branch
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE
from swarmq.models.swarm import SwarmRecord
from swarmq.store.races import RaceReason
from swarmq.store.store import Store

_WHY: dict[RaceReason, str] = {"verify": "won the race", "score": "had the best score at the race's deadline"}


def losers(candidates: Iterable[BranchRecord], winner: str) -> list[BranchRecord]:
    """Candidates that are still to be stopped for the winner. Pure."""
    return [
        one
        for one in candidates
        if one.spec.candidate > 0
        and one.spec.id != winner
        and one.state is not BranchState.DONE
        and one.cancel_reason is None
    ]


async def stop_losers(
    store: Store, dispatch: Dispatcher, swarm_id: str, subtask_id: str, winner: str, by: RaceReason
) -> int:
    """Cancel what still runs of a subtask's race; how many there were. Repeated, it finds none."""
    stopped, reason = 0, f"{CANCELLED_BY_COLLAPSE}{winner} {_WHY[by]}"
    for branch in losers(await store.branches.load_of(swarm_id, subtask_id), winner):
        stopped += await cancel_branch(store, dispatch, swarm_id, branch.spec.id, reason)
        await store.audit.append(swarm_id, "race", "cancelled", {"branch": branch.spec.id, "reason": reason})
    return stopped


async def end_overdue(
    store: Store, dispatch: Dispatcher, swarm: SwarmRecord, branches: Iterable[BranchRecord], now: float
) -> int:
    """End the races whose deadline is over. Losers that are left then are ``reconcile``'s to stop."""
    of_subtask: dict[str, list[BranchRecord]] = {}
    for branch in branches:
        if branch.spec.candidate:
            of_subtask.setdefault(branch.spec.subtask_id, []).append(branch)
    races = await store.races.load(swarm.spec.id) if of_subtask else {}
    stopped = 0
    for subtask_id, candidates in of_subtask.items():
        subtask = swarm.plan.subtask(subtask_id) if swarm.plan is not None else None
        own = subtask.race_deadline_seconds if subtask is not None else None
        winner = overdue_winner(candidates, own or swarm.spec.options.race_deadline_seconds, now)
        if winner is None or subtask_id in races:
            continue
        race = await store.races.decide(swarm.spec.id, subtask_id, winner)
        stopped += await stop_losers(store, dispatch, swarm.spec.id, subtask_id, race.winner, race.by)
    return stopped
