"""``swarmq.gc``: removes worktrees, clones and outputs whose time is over. Never a commit that only it keeps."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import structlog

from swarmq.errors import NotFoundError, SchemaError, StoreError, WorkspaceError
from swarmq.models.branch import kept_worktrees
from swarmq.models.swarm import SwarmRecord
from swarmq.settings import Settings
from swarmq.store.store import Store
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.result_commits import expire_results
from swarmq.workspace.swarm_repository import SwarmRepository
from swarmq.workspace.worktrees import DOOMED, remove_tree

log = structlog.get_logger()
HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS
ORPHAN_SECONDS = DAY_SECONDS
"""A directory stays this long after its record was first not found: another Redis may be in use for a while."""
FOREIGN_SECONDS = 90 * DAY_SECONDS
"""The same where the record was last found in another Redis, whose fleet may be down: its swarms may be paused."""
_OWNER = "redis"
"""A file in each directory; it holds the name of the Redis in which the record was last found."""
_ORPHANED = "no-record-since"
"""A file in such a directory; its time says since when."""


async def collect_garbage(store: Store, settings: Settings, *, dry_run: bool = False) -> list[str]:
    """What was removed (or would be), one line each. What cannot be removed is logged, and keeps nothing else."""
    removed: list[str] = []
    now, name = await store.now(), await _name(store)
    for directory in sorted(await run_blocking(_subdirectories, settings.state_dir / "swarms")):
        try:
            if directory.name.startswith(DOOMED):
                removed += await _left_over(directory, dry_run)
            elif not directory.name.startswith("."):  # else a file system's own, such as .snapshot
                removed += await _look_at(store, settings, directory, now, name, dry_run)
        except (SchemaError, WorkspaceError, OSError) as error:  # another version's swarm is that version's to remove
            if directory.exists():  # else another cleaning was faster
                log.warning("gc left a swarm alone", swarm=directory.name, error=str(error))
    if not dry_run:
        try:
            dropped = await run_blocking(expire_results, settings.state_dir, DAY_SECONDS)
            removed += [f"{dropped} commits of cached results"] if dropped else []
        except (WorkspaceError, OSError) as error:
            log.warning("gc left cached results alone", error=str(error))
        await _tidy(store)
    return removed


async def _name(store: Store) -> str | None:
    """None where that Redis has none yet and refuses to write: its disk may be what is to be cleaned."""
    try:
        return await store.name()
    except StoreError as error:
        log.warning("gc does not know its Redis", error=str(error))
        return None


async def _tidy(store: Store) -> None:
    """What stays in Redis until somebody meets it."""
    try:
        await store.swarms.forget_expired()
        await store.cache.stats()  # drops what is too old
    except StoreError as error:
        log.warning("gc left Redis alone", error=str(error))


async def _left_over(directory: Path, dry_run: bool) -> list[str]:
    """What a removal that died has left: its commits are saved, and it has lost its name."""
    if not dry_run:
        await run_blocking(remove_tree, directory)
    return [f"{directory}: left by a cleaning that was ended"]


async def _look_at(
    store: Store, settings: Settings, directory: Path, now: float, name: str | None, dry_run: bool
) -> list[str]:
    try:
        record = await store.swarms.load(directory.name)
    except NotFoundError:
        patience_seconds = ORPHAN_SECONDS if await run_blocking(_owner, directory) in (None, name) else FOREIGN_SECONDS
        return await _collect_orphan(directory, settings, patience_seconds, dry_run)
    if not dry_run and name is not None:
        await run_blocking(_own, directory, name)
    # By name: whoever made them may see the state directory under another path.
    kept = frozenset(Path(path).name for path in kept_worktrees(await store.branches.load_all(directory.name)))
    return await _collect(directory, record, settings, kept, now - record.finished_at, dry_run)


def _owner(directory: Path) -> str | None:
    try:
        return (directory / _OWNER).read_text() or None
    except FileNotFoundError:
        return None


def _own(directory: Path, name: str) -> None:
    if _owner(directory) != name:
        with contextlib.suppress(OSError):  # a full disk, which is to be cleaned
            (directory / _OWNER).write_text(name)
    (directory / _ORPHANED).unlink(missing_ok=True)


def _orphaned_seconds(directory: Path, dry_run: bool) -> float:
    """For how long no record of it was found. The times of the directory say nothing: work goes on below it."""
    mark = directory / _ORPHANED
    if not mark.exists():
        if not dry_run:
            mark.touch()
        return 0.0
    return time.time() - mark.stat().st_mtime


async def _collect_orphan(directory: Path, settings: Settings, patience_seconds: float, dry_run: bool) -> list[str]:
    if await run_blocking(_orphaned_seconds, directory, dry_run) < patience_seconds:
        return []
    if not dry_run:
        orphan = await SwarmRepository.found(settings.state_dir, directory.name)
        if orphan is not None:
            await orphan.remove()  # commits that only it holds go to the user's repository first
        await run_blocking(remove_tree, directory)
    return [f"{directory}: no record of this swarm"]


async def _collect(
    directory: Path, record: SwarmRecord, settings: Settings, named: frozenset[str], age_seconds: float, dry_run: bool
) -> list[str]:
    """``named`` are the worktrees that are kept for ``keep_failed_hours``; ``age_seconds`` go from its end."""
    if not record.state.final:
        return []
    options, spec = record.spec.options, record.spec
    repository = (
        SwarmRepository(settings.state_dir, spec.id, Path(spec.repo), spec.base_commit)
        if spec.repo is not None and spec.base_commit is not None
        else None
    )
    if age_seconds > options.keep_days * DAY_SECONDS:
        if not dry_run:
            if repository is not None:
                await repository.remove()
            await run_blocking(remove_tree, directory)
        return [f"{directory}: ended more than {options.keep_days:g} days ago"]
    kept = named if age_seconds < options.keep_failed_hours * HOUR_SECONDS else ()
    worktrees = await run_blocking(_subdirectories, directory / "worktrees")
    doomed = [path for path in worktrees if path.name not in kept]
    if not doomed or repository is None:
        return []
    if not dry_run:
        await repository.remove_worktrees(kept)
    return [
        f"{path}: "
        + (f"kept for {options.keep_failed_hours:g} hours" if path.name in named else "left by a lost worker")
        for path in doomed
    ]


def _subdirectories(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
