"""Verify where it decides a second time (S7): the tree that a merge would make. A branch's: swarmq.agent.verifying."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog

from swarmq.agent.narration import verified
from swarmq.errors import LeaseLost, SetupError, StoreError, WorkspaceError
from swarmq.fleet.runtime import Runtime
from swarmq.models.events import Event, EventType
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.models.verify import VerifyReport
from swarmq.orchestrator.verifying import merged_commands
from swarmq.workspace.environment import child_environment
from swarmq.workspace.shell import Shell, cookie_of, kill_all
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree
from swarmq.workspace.verifying import verify_worktree
from swarmq.workspace.worktree_setup import ready_worktree

log = structlog.get_logger()

_SURROUNDINGS = {"verify_timeout_seconds", "setup", "copy_globs", "env"}
"""Options without which passing would mean something else."""


async def verify_commit(
    runtime: Runtime,
    swarm: SwarmRecord,
    subtask: Subtask,
    repository: SwarmRepository,
    commit: str,
    *,
    branch_id: str | None = None,
) -> VerifyReport | None:
    """Verify a merged commit in a clean worktree of it, made ready by ``setup``; None where nothing is to be verified.

    A tree that passed the same commands before is not verified again. Cancelling (a lost job, a worker that stops)
    ends the processes and removes the worktree. Processes of a killed worker are ended by the next run, its worktree
    goes with the swarm. Where the swarm is cancelled the report says so, and does not pass. Raises LeaseLost where
    another worker has begun to verify the same tree: the caller has lost its job.
    """
    commands = merged_commands(swarm.spec.options, subtask)
    if not commands:
        return None
    store, swarm_id = runtime.store, swarm.spec.id
    digest = _digest(await repository.tree_of(commit), commands, swarm.spec.options)
    run = secrets.token_hex(6)
    known, before = await store.verified.begin(swarm_id, digest, run)
    if known is not None:
        return known.model_copy(update={"commit": commit})

    async def tell(type_: EventType, values: dict[str, object]) -> None:
        event = Event(type=type_, at=time.time(), swarm=swarm_id, subtask=subtask.id, branch=branch_id, data=values)
        await store.events.emit(swarm_id, event)

    if before is not None:
        await kill_all(_cookie(swarm_id, before))
    await tell(EventType.VERIFY_STARTED, {"commands": list(commands), "commit": commit})
    work = _verify_clean(runtime, swarm, repository, commit, commands, run)
    found = await _until_cancelled(runtime, swarm_id, work)
    if isinstance(found, str):
        found = VerifyReport(passed=False, command=commands[0], stopped=f"the swarm was cancelled: {found}")
    report = found.model_copy(update={"commit": commit})
    newest = await store.verified.end(swarm_id, digest, run, report)
    if not newest and not report.passed:
        raise LeaseLost(f"commit {commit[:10]} of swarm {swarm_id} is verified by another worker")
    await tell(*verified(report))
    log.info("merged tree verified", swarm=swarm_id, subtask=subtask.id, passed=report.passed, command=report.command)
    return report


def _digest(tree: str, commands: tuple[str, ...], options: SwarmOptions) -> str:
    surroundings = options.model_dump(mode="json", include=_SURROUNDINGS)
    values = orjson.dumps([tree, commands, surroundings], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(values).hexdigest()


def _cookie(swarm_id: str, run: str) -> str:
    return cookie_of(swarm_id, f"verify@{run}")


async def _verify_clean(
    runtime: Runtime, swarm: SwarmRecord, repository: SwarmRepository, commit: str, commands: tuple[str, ...], run: str
) -> VerifyReport:
    options, swarm_id = swarm.spec.options, swarm.spec.id
    outputs = runtime.settings.state_dir / "swarms" / swarm_id / "outputs" / f"verify-{run}"
    numbers = iter(range(1, len(commands) + 1))

    async def reserve() -> tuple[str, Path]:
        path = outputs / f"{next(numbers)}.txt"
        return str(path), path

    async with runtime.verify_slots, _clean_worktree(repository, run, commit) as worktree:
        shell = Shell(worktree.path, child_environment(options.env), _cookie(swarm_id, run))
        try:
            try:
                await ready_worktree(repository, worktree, swarm.spec.options, shell, outputs)
            except SetupError as error:  # it did not fail in the branches: this tree is what it does not work on
                return VerifyReport(passed=False, command=options.setup or "", stopped="it failed", output=str(error))
            return await verify_worktree(
                repository,
                worktree,
                shell,
                commands,
                timeout_seconds=options.verify_timeout_seconds,
                reserve=reserve,
            )
        finally:
            await shell.aclose()


@asynccontextmanager
async def _clean_worktree(repository: SwarmRepository, run: str, commit: str) -> AsyncIterator[Worktree]:
    worktree = await repository.open_detached(run, commit)
    try:
        yield worktree
    finally:
        try:
            await repository.remove_worktree(worktree)
        except WorkspaceError as error:  # it goes with the swarm
            log.warning("a verified worktree is left behind", path=str(worktree.path), error=str(error))


async def _until_cancelled(
    runtime: Runtime, swarm_id: str, work: Coroutine[Any, Any, VerifyReport]
) -> VerifyReport | str:
    """What the work comes to; or why the swarm was cancelled meanwhile: the work has been stopped then."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_cancel_reason(runtime, swarm_id))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished = working.done()
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    return working.result() if finished else watching.result()


async def _cancel_reason(runtime: Runtime, swarm_id: str) -> str:
    """Returns once the swarm is marked cancelled."""
    while True:
        await asyncio.sleep(runtime.settings.heartbeat_seconds)
        try:
            reason = await runtime.store.swarms.cancel_reason(swarm_id)
        except StoreError as error:
            log.warning("not known whether the swarm was cancelled", swarm=swarm_id, error=str(error))
            continue
        if reason is not None:
            return reason
