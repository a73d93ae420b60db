"""Every Celery task of swarmq: a name, a queue (app.py) and one line that runs the coroutine behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import Ignore

from swarmq.errors import LeaseLost, SwarmCancelled, SwarmqError
from swarmq.fleet.accept import Submission, accept
from swarmq.fleet.branch import run_branch
from swarmq.fleet.collapse import collapse
from swarmq.fleet.dispatch import canvas_of, parse_branch_task_id
from swarmq.fleet.ending import cancel_swarm, move_on
from swarmq.fleet.finish import finish_swarm
from swarmq.fleet.gc import collect_garbage
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.pod_upkeep import remove_pods, sweep_pods
from swarmq.fleet.pool import current_job
from swarmq.fleet.reconcile import reconcile
from swarmq.fleet.run import run
from swarmq.fleet.runtime import Runtime, Runtimes
from swarmq.fleet.settling import finish_stage
from swarmq.fleet.shown import RESULT_CHARACTERS
from swarmq.fleet.stages import start_stage
from swarmq.models.swarm import SwarmState
from swarmq.store import keys

T = TypeVar("T")
REQUEST = "swarmq.fleet.shown:ShownRequest"
REVOKED = "revoked from Celery (Flower's terminate button, or app.control.revoke)"


def _task(app: Celery, name: str, **options: Any) -> Any:
    return app.task(bind=True, name=name, Request=REQUEST, shared=False, **options)


def register(app: Celery, runtimes: Runtimes) -> None:
    """Add the tasks to an application. All are idempotent: each may be delivered twice, late or never."""

    def perform(task: Any, work: Callable[[Runtime], Awaitable[T]]) -> T:
        async def go() -> T:
            return await work(await runtimes.get(task.request.hostname or "producer"))

        return run(go())

    # Not shared: Celery would else add these closures, with their runtimes, to every other application of the process.
    own = partial(_task, app)
    _register_ends(own, perform)
    _register_work(own, perform)
    _register_upkeep(own, perform)


def _register_ends(own: Any, perform: Any) -> None:
    """What a producer's message meets first and last."""

    @own("swarmq.swarm")
    def swarm(
        self: Any,
        previous: Any = None,
        *,
        task: str | None = None,
        swarm_id: str | None = None,
        repo: str | None = None,
        plan: Any = None,
        **options: Any,
    ) -> None:
        """Ends its own delivery without a result; ``swarmq.deliver`` sends the value under the same id."""
        canvas = canvas_of(self.request)
        submission = swarm_id or Submission(task, previous, repo, plan, options)
        perform(self, lambda runtime: accept(runtime, submission, canvas))
        raise Ignore

    @own("swarmq.deliver", resultrepr_maxsize=RESULT_CHARACTERS)
    def deliver(self: Any, swarm_id: str) -> dict[str, Any]:
        value: dict[str, Any] = perform(self, lambda runtime: value_of(runtime, swarm_id))
        return value


def _register_work(own: Any, perform: Any) -> None:
    """What a swarm is made of."""

    @own("swarmq.plan", ignore_result=True)
    def plan(self: Any, swarm_id: str) -> None:
        perform(self, lambda runtime: plan_swarm(runtime, swarm_id))

    @own("swarmq.start_stage", ignore_result=True)
    def start(self: Any, swarm_id: str, stage: int) -> None:
        perform(self, lambda runtime: start_stage(runtime, swarm_id))

    @own("swarmq.run_branch")
    def branch(self: Any, swarm_id: str, branch_id: str) -> dict[str, Any]:
        tag = self.request.properties.get("delivery_tag")
        job = current_job()
        ended: dict[str, Any] = perform(self, lambda runtime: run_branch(runtime, swarm_id, branch_id, job, tag))
        return ended

    @own("swarmq.finish_stage", ignore_result=True)
    def finish(self: Any, swarm_id: str, stage: int) -> None:
        perform(self, lambda runtime: finish_stage(runtime, swarm_id, stage))

    @own("swarmq.finish_swarm", ignore_result=True)
    def end(self: Any, swarm_id: str) -> None:
        perform(self, lambda runtime: finish_swarm(runtime, swarm_id))


def _register_upkeep(own: Any, perform: Any) -> None:
    """Beat's ticks, and what Celery's own revokes become."""

    @own("swarmq.reconcile", ignore_result=True)
    def tick(self: Any) -> None:
        perform(self, lambda runtime: _once(runtime, "reconcile", runtime.settings.reconcile_seconds, reconcile))

    @own("swarmq.collapse", ignore_result=True)
    def judge(self: Any) -> None:
        perform(self, lambda runtime: _once(runtime, "collapse", runtime.settings.collapse_seconds, collapse))

    @own("swarmq.gc", ignore_result=True)
    def sweep(self: Any) -> None:
        perform(self, lambda runtime: _once(runtime, "gc", runtime.settings.gc_seconds, _sweep))

    @own("swarmq.remove_pods", ignore_result=True)
    def remove(self: Any, swarm_id: str, stage: int) -> None:
        perform(self, lambda runtime: remove_pods(runtime, swarm_id, stage))

    @own("swarmq.sweep_pods", ignore_result=True)
    def sweep_old(self: Any) -> None:
        perform(self, sweep_pods)

    @own("swarmq.revoked", ignore_result=True)
    def revoked(self: Any, task_ids: list[str]) -> None:
        perform(self, lambda runtime: cancel_revoked(runtime, task_ids))


async def _once(
    runtime: Runtime, name: str, interval_seconds: float, work: Callable[[Runtime], Awaitable[object]]
) -> None:
    """Do a tick's work, but for ticks of a second beat, and those that piled up while no worker was there."""
    half_ms = max(1, round(interval_seconds * 500))
    if await runtime.store.gate.call("SET", keys.TICK_DONE(name), "1", "NX", "PX", half_ms) is not None:
        await work(runtime)


async def _sweep(runtime: Runtime) -> None:
    await collect_garbage(runtime.store, runtime.settings)
    workers = await runtime.store.workers.list()
    if any("pods" in (worker.get("queues") or ()) for worker in workers):  # else nobody would take the message
        await runtime.dispatch.sweep_pods()


async def value_of(runtime: Runtime, swarm_id: str) -> dict[str, Any]:
    """The compact value for a canvas. A failed swarm is a value; cancelling and infrastructure failure raise."""
    record = await runtime.store.swarms.load(swarm_id)
    result = record.result
    if result is None:
        raise LeaseLost(f"swarm {swarm_id} has no result yet")
    if result.state is SwarmState.CANCELLED:
        raise SwarmCancelled(f"swarm {swarm_id} was cancelled: {record.cancel_reason}")
    if result.error is not None and not result.subtasks:
        raise SwarmqError(f"swarm {swarm_id}: {result.error}")
    return result.compact()


async def mark_revoked(runtime: Runtime, swarm_id: str, branch_id: str) -> None:
    """Only the record: the revoke itself stops a running branch, and to send another would come back here."""
    branches = runtime.store.branches
    if await branches.exists(swarm_id, branch_id):
        record = await branches.load(swarm_id, branch_id)
        cancelled = await branches.cancel(swarm_id, branch_id, record.cancel_reason or REVOKED)
        await move_on(runtime.dispatch, swarm_id, record.spec.stage, cancelled)


async def cancel_revoked(runtime: Runtime, task_ids: list[str]) -> None:
    """A revoke of a branch's task cancels the branch, one of a swarm's task the swarm. Others are not ours."""
    for task_id in task_ids:
        branch = parse_branch_task_id(task_id)
        if branch is not None:
            await mark_revoked(runtime, *branch)
            continue
        swarm_id = await runtime.store.swarms.by_task(task_id)
        if swarm_id is not None:
            await cancel_swarm(runtime.store, runtime.dispatch, swarm_id, REVOKED)
