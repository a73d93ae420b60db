"""Revokes that come from Celery itself (Flower's terminate button) become records, so that they outlive the worker."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.worker.control import Panel

from swarmq.fleet.app import CONTROL


def hear_revokes(app: Celery) -> None:
    """Wrap the ``revoke`` command of this worker. Every worker hears the broadcast; the ``control`` ones report it.

    Celery has no signal for a revoke of a task that is not running, and a producer's swarm task is not: it waits as a
    record.
    """
    original = Panel.data["revoke"]

    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
        answer = original(state, task_id, terminate=terminate, signal=signal, **kwargs)
        consumes = {queue.name for queue in state.consumer.task_consumer.queues}
        if CONTROL in consumes:
            task_ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
            app.tasks["swarmq.revoked"].apply_async((task_ids,))
        return answer

    Panel.data["revoke"] = revoke
