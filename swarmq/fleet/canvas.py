"""A swarm as a signature in the producer's own canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import Signature

from swarmq.fleet.app import CONTROL
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Plan


def swarm_signature(
    task: str | None = None, *, repo: str | Path | None = None, plan: Plan | None = None, **options: Any
) -> Signature:
    """``chain(swarm_signature("..."), my_task.s())``: its value is compact (id, success, report, branch, commit, …).

    In a chain, a previous value becomes context; without ``task`` a previous text is the task. Raises OptionError for
    options that cannot be. A failed swarm is a value with ``success`` false; cancelling it raises SwarmCancelled.
    """
    SwarmOptions.parse(options)
    kwargs: dict[str, Any] = dict(options)
    if task is not None:
        kwargs["task"] = task
    if repo is not None:
        kwargs["repo"] = str(Path(repo).expanduser().resolve())
    if plan is not None:
        kwargs["plan"] = plan.model_dump(mode="json")
    return Signature("swarmq.swarm", kwargs=kwargs, queue=CONTROL, argsrepr="()", kwargsrepr="{…}")
