"""Publishing: the only place that puts swarmq's messages on the queues. Messages carry ids, nothing else.

A message may be lost or doubled without harm: the record behind it was written first, ``reconcile`` sends again what
nobody claimed, and every task claims its record before it works.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import structlog
from celery import Celery, chord
from kombu.exceptions import OperationalError

from swarmq.fleet.app import AGENTS, INTEGRATE, PODS
from swarmq.workspace.blocking import run_blocking

log = structlog.get_logger()

_PLACEMENTS_KEPT = 1024


def branch_task_id(swarm_id: str, branch_id: str) -> str:
    """The Celery id of a branch's task: readable in Flower, and a revoke of it can be traced to its record."""
    return f"{swarm_id}.{branch_id}"


def parse_branch_task_id(task_id: str) -> tuple[str, str] | None:
    swarm_id, _, branch_id = task_id.partition(".")
    return (swarm_id, branch_id) if len(swarm_id) == 10 and branch_id else None


class Dispatcher:
    """Publishes for one Celery app. kombu blocks, so each publication runs on a thread of the bounded executor."""

    def __init__(self, app: Celery, placement: Callable[[str], Awaitable[str]] | None = None) -> None:
        """``placement`` tells where a swarm's branches run; without it they all run in the fleet."""
        self.app = app
        self._placement = placement
        self._queues: dict[str, str] = {}

    async def _models_queue(self, swarm_id: str) -> str:
        """Where what calls the swarm's model goes: to those who have its key, and the cluster where it needs one."""
        if self._placement is None:
            return AGENTS
        if swarm_id not in self._queues:
            if len(self._queues) >= _PLACEMENTS_KEPT:
                self._queues.clear()
            self._queues[swarm_id] = PODS if await self._placement(swarm_id) == "pod" else AGENTS
        return self._queues[swarm_id]

    async def _publish(self, what: str, publish: Callable[[], Any]) -> bool:
        try:
            await run_blocking(publish)
        except OperationalError as error:  # the record stands; reconcile publishes it again
            log.warning("publish failed, it will be sent again", what=what, error=str(error))
            return False
        return True

    def _send(self, name: str, *args: Any, **options: Any) -> Callable[[], Any]:
        return lambda: self.app.tasks[name].apply_async(args, **options)

    async def plan(self, swarm_id: str) -> None:
        queue = await self._models_queue(swarm_id)
        await self._publish("plan", self._send("swarmq.plan", swarm_id, queue=queue))

    async def start_stage(self, swarm_id: str, stage: int) -> None:
        await self._publish("start_stage", self._send("swarmq.start_stage", swarm_id, stage))

    async def finish_stage(self, swarm_id: str, stage: int) -> None:
        await self._publish("finish_stage", self._send("swarmq.finish_stage", swarm_id, stage))

    async def finish_swarm(self, swarm_id: str, *, calls_model: bool) -> None:
        """A synthesis is a model call, and model keys belong to the workers of agents."""
        queue = await self._models_queue(swarm_id) if calls_model else INTEGRATE
        await self._publish("finish_swarm", self._send("swarmq.finish_swarm", swarm_id, queue=queue))

    async def branches(self, swarm_id: str, branch_ids: Sequence[str]) -> None:
        """Branches on their own: the stage's chord is already out, and records, not its counter, end the stage."""

        queue = await self._models_queue(swarm_id) if branch_ids else AGENTS

        def publish() -> None:
            for branch_id in branch_ids:
                self._branch(swarm_id, branch_id, queue).apply_async()

        if branch_ids:
            await self._publish("run_branch", publish)

    async def stage(self, swarm_id: str, stage: int, branch_ids: Sequence[str]) -> None:
        """The stage's chord. Body and errback are the same idempotent task, which reads records only."""
        finish, queue = self.app.tasks["swarmq.finish_stage"], await self._models_queue(swarm_id)

        def publish() -> None:
            body = finish.si(swarm_id, stage)
            body.on_error(finish.si(swarm_id, stage))
            chord([self._branch(swarm_id, branch_id, queue) for branch_id in branch_ids], app=self.app)(body)

        await self._publish("stage", publish)

    def _branch(self, swarm_id: str, branch_id: str, queue: str) -> Any:
        signature = self.app.tasks["swarmq.run_branch"].si(swarm_id, branch_id)
        shown = f"({branch_id} of {swarm_id})"
        return signature.set(task_id=branch_task_id(swarm_id, branch_id), argsrepr=shown, queue=queue)

    async def remove_pods(self, swarm_id: str, stage: int) -> None:
        """Of a stage that has ended: those whose supervisor died before it could."""
        await self._publish("remove_pods", self._send("swarmq.remove_pods", swarm_id, stage))

    async def sweep_pods(self) -> None:
        await self._publish("sweep_pods", self._send("swarmq.sweep_pods"))

    async def terminate(self, task_ids: Sequence[str]) -> None:
        """Stop running branches at once, wherever they run; a lost broadcast is made good by their heartbeat."""
        if task_ids:
            await self._publish(
                "revoke", lambda: self.app.control.revoke(list(task_ids), terminate=True, signal="SIGTERM")
            )

    async def deliver(self, swarm_id: str, canvas: dict[str, Any]) -> bool:
        """The last message of a producer's task, under its own id: its body returns the value of the swarm.

        False where it could not be sent: who is not told yet stays in the record, and reconcile sees to it.
        """
        options = {key: canvas[key] for key in ("chord", "group_id", "group_index", "root_id", "parent_id")}
        publish = partial(
            self.app.tasks["swarmq.deliver"].apply_async,
            (swarm_id,),
            task_id=canvas["task_id"],
            chain=canvas["chain"],
            link=canvas["link"],
            link_error=canvas["link_error"],
            argsrepr=f"({swarm_id})",
            **options,
        )
        return await self._publish("deliver", publish)


def canvas_of(request: Any) -> dict[str, Any]:
    """What the producer's canvas wants done after this task: kept in the record until the swarm ends."""
    return {
        "task_id": request.id,
        "chain": request.chain or None,
        "link": request.callbacks or None,
        "link_error": request.errbacks or None,
        "chord": request.chord,
        "group_id": request.group,
        "group_index": request.group_index,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
    }
