"""Workers in pods: what reconcile does with what the cluster says of them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from swarmq.fleet.runtime import Runtime
from swarmq.kubernetes.worker_pods import WorkerPods, pod_of, replaced
from swarmq.models.branch import BranchRecord, BranchState

log = structlog.get_logger()


async def take_from_dead(runtime: Runtime, branches: Sequence[BranchRecord], now: float) -> list[BranchRecord]:
    """End the leases of branches whose worker's pod has failed, run out of memory, gone or begun anew, and say which.

    They are given to other workers as after any lost lease: a delivery is counted, and nothing is held against the
    agent. The order matters: a holder that was read before the pods were listed, and whose pod had ended by then, is
    dead; one that came later has another token.
    """
    held = [branch for branch in branches if branch.state is BranchState.RUNNING and branch.lease_until >= now]
    lost = await _lost(runtime, {branch.worker for branch in held})
    ended: dict[str, float] = {}
    for branch in held:
        reason = lost.get(branch.worker)
        if reason is None:
            continue
        lapsed_at = await runtime.store.branches.lapse(branch.spec.swarm_id, branch.spec.id, branch.token)
        if lapsed_at is not None:
            log.warning("the pod of a branch is lost", swarm=branch.spec.swarm_id, branch=branch.spec.id, reason=reason)
            ended[branch.spec.id] = min(lapsed_at, now - 1e-6)
    return [
        branch.model_copy(update={"lease_until": ended[branch.spec.id]}) if branch.spec.id in ended else branch
        for branch in branches
    ]


async def _lost(runtime: Runtime, workers: set[str]) -> dict[str, str]:
    """Why, by worker, of those that are known to have ended."""
    health = await runtime.pods.health_of(workers) if workers else {}
    lost = {worker: found.reason or "its container ended" for worker, found in health.items() if found.dead}
    if any(pod_of(worker) for worker in workers):
        present = {str(worker["name"]) for worker in await runtime.store.workers.list()}
        lost |= dict.fromkeys(replaced(workers - lost.keys(), present), "its container was started again")
    return lost


async def show_busy(runtime: Runtime) -> None:
    """Tell the cluster which of the workers' pods to remove last."""
    if isinstance(runtime.pods, WorkerPods):
        workers = await runtime.store.workers.list()
        await runtime.pods.show_busy({str(worker["name"]): int(worker["running"]) for worker in workers})
