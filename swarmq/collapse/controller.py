"""One look of the collapse controller at one swarm: records in, a decision, marks out, and then the revokes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from swarmq.agent.narration import branch_event
from swarmq.collapse.policy import Look, judge
from swarmq.collapse.ports import Canceller
from swarmq.collapse.sampling import Scope, samples
from swarmq.crash_points import CrashPoint, reached
from swarmq.models.branch import BranchRecord
from swarmq.models.collapse import CANCELLED_BY_COLLAPSE, Evaluation, Kill, ScoreEntry
from swarmq.models.events import Event, EventType
from swarmq.models.pods import PodHealth
from swarmq.models.swarm import SwarmRecord
from swarmq.store.store import Store

log = structlog.get_logger()


@dataclass(frozen=True)
class Observed:
    """A swarm as a look finds it. ``branches``: those that run, and all of the races that these are in."""

    swarm: SwarmRecord
    branches: Sequence[BranchRecord]

    @property
    def stands(self) -> bool:
        """The swarm is paused, or to stop."""
        return self.swarm.paused_at > 0 or self.swarm.cancel_reason is not None or self.swarm.state.final

    @property
    def scope(self) -> Scope | None:
        """Who competes; None where nobody is to be judged."""
        collapse = self.swarm.spec.options.collapse
        return None if self.stands or collapse == "off" else collapse


async def observe(store: Store, swarm_id: str) -> Observed:
    """Read what a look wants. NotFoundError, SchemaError."""
    swarm = await store.swarms.load(swarm_id)
    running = await store.branches.load_running(swarm_id)
    branches = {branch.spec.id: branch for branch in running}
    for race in dict.fromkeys(branch.spec.subtask_id for branch in running if branch.spec.candidate):
        branches |= {branch.spec.id: branch for branch in await store.branches.load_of(swarm_id, race)}
    return Observed(swarm, tuple(branches.values()))


async def look(
    store: Store, canceller: Canceller, observed: Observed, health: Mapping[str, PodHealth], now: float
) -> Sequence[str]:
    """Judge, keep what was found, mark those that lose, and have them stopped. Returns those that were marked now.

    Dying before the decision is kept, it is made again; dying behind it, the holders find the mark with their next
    heartbeat. ``now`` is by the clock of Redis.
    """
    scope = observed.scope
    if scope is None or not observed.branches:
        return ()
    swarm_id, policy = observed.swarm.spec.id, observed.swarm.spec.options.collapse_policy
    before = await store.collapse.recall(swarm_id)
    verdict = judge(before.state, samples(observed.branches, health, scope, now), policy, now)
    changed = _changed(before.state.evaluated, verdict)
    entry = ScoreEntry(at=now, scope=scope, policy=policy, evaluations=changed) if changed else None
    kills = [_worded(kill) for kill in verdict.kills]
    told = [(kill, _event(observed, kill)) for kill in kills]
    reached(CrashPoint.COLLAPSE_DECIDED)
    marked = await store.collapse.decide(swarm_id, before.looks, verdict.state, entry, told)
    if not marked:
        return ()
    for kill in kills:
        log.warning("branch is stopped", swarm=swarm_id, branch=kill.branch_id, reason=kill.reason)
    reached(CrashPoint.KILL_SENT)
    await canceller.stop(swarm_id, marked)
    return marked


def _changed(shown: Mapping[str, str], verdict: Look) -> tuple[Evaluation, ...]:
    """What is new to a reader: nothing is written of a branch that stands where it stood."""
    return tuple(one for one in verdict.evaluations if shown.get(one.branch_id) != one.mark)


def _worded(kill: Kill) -> Kill:
    return kill.model_copy(update={"reason": f"{CANCELLED_BY_COLLAPSE}{kill.reason}"})


def _event(observed: Observed, kill: Kill) -> Event:
    spec = next(branch.spec for branch in observed.branches if branch.spec.id == kill.branch_id)
    return branch_event(spec, EventType.BRANCH_KILLED, {"reason": kill.reason, "score": round(kill.score, 4)})


def workers_of(looks: Iterable[Observed]) -> set[str]:
    """Whose pods have to be known for these looks."""
    return {branch.worker for one in looks if one.scope is not None for branch in one.branches if branch.worker}
