"""``swarmq.swarm``: a producer's message becomes a record, and the producer's task waits without a thread."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import OptionError
from swarmq.fleet.runtime import Runtime
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan
from swarmq.models.swarm import SwarmSpec
from swarmq.workspace.repository import inspect

MAX_CONTEXT_CHARACTERS = 50_000
"""A previous value of the producer's canvas is context for the planner; more than this is cut."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def swarm_id_for(task_id: str) -> str:
    """The swarm of a producer's message: derived, so that a second delivery finds the first one's record."""
    number = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:8], "big")
    digits = ""
    for _ in range(10):
        number, digit = divmod(number, 36)
        digits += _DIGITS[digit]
    return digits


@dataclass(frozen=True)
class Submission:
    """What a producer asks for, before it is checked."""

    task: str | None
    previous: Any
    repo: str | None
    plan: Any
    options: dict[str, Any]


def task_and_context(submission: Submission) -> tuple[str, str]:
    """The task's text and the context. Without a ``task`` a previous text value is the task itself."""
    task, previous = submission.task, submission.previous
    if task is None and isinstance(previous, str):
        task, previous = previous, None
    if not isinstance(task, str) or not task.strip():
        raise OptionError("task: a swarm needs a text that says what to do")
    if previous is None:
        return task, ""
    text = previous if isinstance(previous, str) else json.dumps(previous, ensure_ascii=False, default=str)
    return task, text[:MAX_CONTEXT_CHARACTERS]


async def checked_spec(submission: Submission, swarm_id: str, task_id: str) -> SwarmSpec:
    """Check everything that can be known without the model. Raises UsageError or EnvironmentFault; starts nothing."""
    task, context = task_and_context(submission)
    options = SwarmOptions.parse(submission.options)
    plan = None if submission.plan is None else Plan.parse(submission.plan, options.max_subtasks)
    if submission.repo is None:
        if plan is not None and any(subtask.kind is not Kind.READ for subtask in plan.subtasks):
            raise OptionError("repo: a plan with subtasks that edit or verify needs a repository")
        if options.verify:
            raise OptionError("verify: without a repository there is nothing to verify")
        if options.candidates > 1:
            raise OptionError("candidates: without a repository branches leave no work that could be compared")
        repo = base_commit = base_branch = None
    else:
        info = await inspect(Path(submission.repo), allow_dirty=options.allow_dirty)
        repo, base_commit, base_branch = str(info.path), info.commit, info.branch
    return SwarmSpec(
        id=swarm_id,
        task=task,
        context=context,
        options=options,
        repo=repo,
        base_commit=base_commit,
        base_branch=base_branch,
        plan=plan,
        created_at=time.time(),
        celery_task_id=task_id,
    )


async def accept(runtime: Runtime, submission: Submission | str, canvas: dict[str, Any]) -> None:
    """Record the swarm (or find the recorded one: a str is its id) with the producer's canvas, and have it planned.

    Dying before the record is written loses nothing (the message is not acked); after it, ``reconcile`` plans it.
    """
    store = runtime.store
    if isinstance(submission, str):
        swarm_id = submission
        await store.swarms.load(swarm_id)
    else:
        known = await store.swarms.by_task(canvas["task_id"])
        if known is None:  # a second delivery is not checked again: the repository may have changed meanwhile
            spec = await checked_spec(submission, swarm_id_for(canvas["task_id"]), canvas["task_id"])
            reached(CrashPoint.SWARM_RECORDED)
            known = await store.swarms.create(spec)
        swarm_id = known
    await store.swarms.add_canvas(swarm_id, canvas)
    record = await store.swarms.load(swarm_id)
    if not record.state.final:
        reached(CrashPoint.PLAN_SENT)
        await runtime.dispatch.plan(swarm_id)
    elif record.canvases:  # an idempotency key of a swarm that has ended: its value is there already
        await runtime.dispatch.finish_swarm(swarm_id, calls_model=False)
