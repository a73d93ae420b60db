"""Verify where the work is made: in the worktree of a branch, for the agent loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from swarmq.agent.narration import Narrator
from swarmq.agent.ports import VERIFYING
from swarmq.crash_points import CrashPoint, reached
from swarmq.models.branch import BranchSpec
from swarmq.models.events import Event
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind
from swarmq.models.verify import VerifyReport
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree
from swarmq.workspace.verifying import Reserve, verify_worktree


class VerifyJournal(Protocol):
    """A journal that keeps the last report."""

    verified: VerifyReport | None

    async def tell(self, doing: str, *events: Event) -> None: ...


@dataclass(frozen=True)
class VerifyPlace:
    """Where commands run, and where long outputs go."""

    repository: SwarmRepository
    worktree: Worktree
    shell: Shell
    reserve: Reserve


COMMIT_COMMAND, MARKERS_COMMAND = "git commit", "git diff --check"
"""What would tell of files that cannot be committed, and of conflict markers."""
NAMED = 100
"""Files beyond these are not named: the output goes into records and into the agent's conversation."""


@dataclass
class BranchVerify:
    """Verifies the work of one branch for the agent loop; the journal keeps the last report.

    While ``running``, and behind a run that was stopped, the worktree may hold what verify did to it: the files of the
    branch are those of the last checkpoint, which ``checkpoint`` has made before.
    """

    place: VerifyPlace
    commands: tuple[str, ...]
    options: SwarmOptions
    spec: BranchSpec
    checkpoint: Callable[[], Awaitable[None]]
    journal: VerifyJournal
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Shared by all whose commands would run on the same processors."""
    running: bool = field(default=False, init=False)

    async def __call__(self) -> VerifyReport | None:
        place = self.place
        unfit = await self._unfit()
        if unfit is not None or not self.commands:
            self.journal.verified = unfit
            return unfit
        must_change = self.spec.kind is Kind.EDIT and self.spec.theirs is None
        if must_change and not await place.repository.changed_files(place.worktree):
            return None  # the branch fails for it, whatever verify would say
        await self.checkpoint()
        if self.slots.locked():
            await self.journal.tell("waiting for others' verify")
        async with self.slots:
            await self.journal.tell(VERIFYING, Narrator(self.spec, time.time).verifying(self.commands))
            reached(CrashPoint.VERIFY_RUN)
            self.running = True
            report = await verify_worktree(
                place.repository,
                place.worktree,
                place.shell,
                self.commands,
                timeout_seconds=self.options.verify_timeout_seconds,
                reserve=place.reserve,
            )
            self.running, self.journal.verified = False, report
        await self.journal.tell("verified")
        return report

    async def _unfit(self) -> VerifyReport | None:
        """Why the files of an edit branch cannot be merged, whatever the commands would say of them."""
        place, theirs = self.place, self.spec.theirs
        if self.spec.kind is not Kind.EDIT:
            return None
        refused = await place.repository.refused_files(place.worktree)
        if refused:
            return VerifyReport(passed=False, command=COMMIT_COMMAND, exit_code=1, output="\n".join(refused[:NAMED]))
        marked = await place.repository.unresolved(place.worktree, theirs) if theirs is not None else ()
        if marked:
            told = "\n".join(f"{name}: conflict markers are left" for name in marked[:NAMED])
            return VerifyReport(passed=False, command=MARKERS_COMMAND, exit_code=2, output=told)
        return None
