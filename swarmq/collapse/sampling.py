"""From the records of branches to what a look judges: who competes with whom, and who is to be judged at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from swarmq.collapse.policy import Sample, Standing
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.pods import PodHealth

Scope = Literal["race", "stage"]


def samples(
    branches: Iterable[BranchRecord], health: Mapping[str, PodHealth], scope: Scope, now: float
) -> list[Sample]:
    """What a look wants to know. ``health`` is by worker; branches that failed or were stopped are out of it."""
    found = []
    for branch in branches:
        standing = _standing(branch, health, now)
        if standing is None:
            continue
        spec = branch.spec
        racing = spec.candidate > 0
        alone = spec.resolves is not None or (scope == "race" and not racing)
        race = spec.id if alone else spec.subtask_id
        found.append(
            Sample(
                branch_id=spec.id,
                group=race if scope == "race" or alone else f"stage {spec.stage}",
                race=race,
                racing=racing and scope == "race",
                standing=standing,
                started_at=branch.started_at,
                ended_at=branch.finished_at,
                observation=branch.observation,
                health=health.get(branch.worker),
            )
        )
    return found


def _standing(branch: BranchRecord, health: Mapping[str, PodHealth], now: float) -> Standing | None:
    """None for who can do nothing any more: it failed, or is marked to stop."""
    if branch.state is BranchState.DONE:
        completed = branch.outcome is not None and branch.outcome.success
        return Standing.COMPLETED if completed else None
    if branch.cancel_reason is not None:
        return None
    pod = health.get(branch.worker)
    gone = branch.lease_until < now or (pod is not None and pod.dead)  # reconcile gives it to another worker
    if branch.state is not BranchState.RUNNING or branch.started_at <= 0 or branch.observation is None or gone:
        return Standing.OPEN
    return Standing.JUDGED
