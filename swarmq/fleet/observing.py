"""The heartbeat's eyes on a branch: its observer, and the events that come of what that finds."""

from __future__ import annotations

import structlog

from swarmq.agent.narration import branch_event
from swarmq.collapse.observing import Activity, Looked, Observer
from swarmq.collapse.probing import Probe
from swarmq.errors import SwarmqError
from swarmq.models.branch import BranchSpec
from swarmq.models.events import EventType
from swarmq.models.options import SwarmOptions
from swarmq.store.store import Store
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

log = structlog.get_logger()

LOOK_PATIENCE_SECONDS = 1.0
"""A heartbeat waits this long for a look at the files, which takes some 20 ms; a probe goes on behind it."""


def observer_of(activity: Activity, store: Store, spec: BranchSpec) -> Observer:
    """What is observed of a branch; as an event too, where the look at its files found something new."""

    async def told(looked: Looked, note: str) -> None:
        data = {
            "files": len(looked.files),
            "changed_lines": looked.changed_lines,
            "checks": looked.checks,
            "problems": list(looked.problems),
            "note": note,
        }
        try:
            await store.events.emit(spec.swarm_id, branch_event(spec, EventType.BRANCH_OBSERVATION, data))
        except SwarmqError as error:  # the observation itself goes with the heartbeat
            log.warning("observation not told", error=str(error))

    return Observer(activity, told)


def watch_files(
    observer: Observer, repository: SwarmRepository, worktree: Worktree, shell: Shell, options: SwarmOptions
) -> None:
    """Have the observer look at what a branch changes from now on. What it starts from counts as saved."""
    probe = None if options.probe is None else Probe(shell, options.probe, options.probe_timeout_seconds)
    observer.watch(repository, worktree.base, probe)
    if worktree.start != worktree.base:
        observer.saved(worktree.start)
