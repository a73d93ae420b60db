"""``swarmq.gc``: removes worktrees, clones and outputs whose time is over. Never a commit that only it keeps."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import structlog

from swarmq.errors import NotFoundError, SchemaError, WorkspaceError
from swarmq.models.branch import kept_worktrees
from swarmq.models.swarm import SwarmRecord
from swarmq.settings import Settings
from swarmq.store.store import Store
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.result_commits import expire_results
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()
HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
ORPHAN_SECONDS = DAY_SECONDS
"""A directory stays this long after its record was first not found: another Redis may be in use for a while."""
_ORPHANED = "no-record-since"
"""A file in such a directory; its time says since when."""


async def collect_garbage(store: Store, settings: Settings, *, dry_run: bool = False) -> list[str]:
    """What was removed (or would be), one line each."""
    removed: list[str] = []
    root = settings.state_dir / "swarms"
    for directory in sorted(await run_blocking(_subdirectories, root)):
        try:
            record: SwarmRecord | None = await store.swarms.load(directory.name)
        except NotFoundError:
            record = None
        except SchemaError as error:  # another version's swarm is that version's to remove
            log.warning("gc left a swarm alone", swarm=directory.name, error=str(error))
            continue
        try:
            kept = kept_worktrees(await store.branches.load_all(directory.name)) if record is not None else frozenset()
            removed += await _collect(directory, record, settings, kept, dry_run)
        except WorkspaceError as error:
            log.warning("gc left a swarm alone", swarm=directory.name, error=str(error))
    if not dry_run:
        dropped = await run_blocking(expire_results, settings.state_dir, DAY_SECONDS)
        removed += [f"{dropped} commits of cached results"] if dropped else []
    return removed


def _orphaned_seconds(directory: Path, dry_run: bool) -> float:
    """For how long no record of it was found. The times of the directory say nothing: work goes on below it."""
    mark = directory / _ORPHANED
    if not mark.exists():
        if not dry_run:
            mark.touch()
        return 0.0
    return time.time() - mark.stat().st_mtime


async def _collect(
    directory: Path, record: SwarmRecord | None, settings: Settings, named: frozenset[str], dry_run: bool
) -> list[str]:
    """``named`` are the worktrees that are kept for ``keep_failed_hours``."""
    if record is None:
        if await run_blocking(_orphaned_seconds, directory, dry_run) < ORPHAN_SECONDS:
            return []
        if not dry_run:
            orphan = await SwarmRepository.found(settings.state_dir, directory.name)
            if orphan is not None:
                await orphan.remove()  # commits that only it holds go to the user's repository first
            await run_blocking(shutil.rmtree, directory, ignore_errors=True)
        return [f"{directory}: no record of this swarm"]
    await run_blocking((directory / _ORPHANED).unlink, missing_ok=True)
    if not record.state.final:
        return []
    age = time.time() - record.finished_at
    options = record.spec.options
    spec = record.spec
    repository = (
        SwarmRepository(settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)
        if spec.repo is not None and spec.base_commit is not None
        else None
    )
    if age > options.keep_days * DAY_SECONDS:
        if not dry_run:
            if repository is not None:
                await repository.remove()
            await run_blocking(shutil.rmtree, directory, ignore_errors=True)
        return [f"{directory}: ended more than {options.keep_days:g} days ago"]
    kept = named if age < options.keep_failed_hours * HOUR_SECONDS else ()
    worktrees = await run_blocking(_subdirectories, directory / "worktrees")
    doomed = [path for path in worktrees if str(path) not in kept]
    if not doomed or repository is None:
        return []
    if not dry_run:
        await repository.remove_worktrees(kept)
    return [
        f"{path}: "
        + (f"kept for {options.keep_failed_hours:g} hours" if str(path) in named else "left by a lost worker")
        for path in doomed
    ]


def _subdirectories(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
