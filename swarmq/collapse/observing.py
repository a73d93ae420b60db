"""What a heartbeat tells of a branch: what its agent does, and how its files are.

The files are looked at as they were last saved, and only if they were saved anew since the last look: at most one look
for each heartbeat, none while the agent reads, thinks or waits. A look is two git processes and the check of the files
that changed since the last one, in a process as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from swarmq.collapse.checks import MARKERS, MOST_TOTAL_BYTES, check_files, excused, suspects, told, unread_blobs
from swarmq.errors import SwarmqError
from swarmq.models.branch import Observation
from swarmq.models.verify import VerifyReport
from swarmq.workspace.surveying import ChangedFile, Survey

log = structlog.get_logger()

MOST_FILES = 200


class Activity(Protocol):
    """What the branch's journal knows of its agent. ``writing``: a tool that may change files is running."""

    @property
    def steps(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def doing(self) -> str: ...
    @property
    def writing(self) -> bool: ...
    @property
    def verified(self) -> VerifyReport | None: ...


class SavedFiles(Protocol):
    """What a look reads; a SwarmRepository is one."""

    async def survey(self, base: str, commit: str) -> Survey: ...
    async def blob_contents(self, blobs: Sequence[str], limit_bytes: int) -> dict[str, bytes]: ...
    async def marked_files(self, base: str, commit: str) -> frozenset[str]: ...


class Probing(Protocol):
    async def __call__(self) -> tuple[bool | None, str]:
        """Whether the branch is on a good way (None: not known), and what is to be said if it is not."""
        ...


@dataclass(frozen=True)
class Looked:
    """How the files were at the last look. ``findings``: what each changed blob was found to have, for the next one."""

    commit: str | None = None
    changed_at: float = 0.0
    changed_step: int = 0
    files: tuple[str, ...] = ()
    changed_lines: int = 0
    checks: bool | None = None
    problems: tuple[str, ...] = ()
    findings: dict[str, str | None] = field(default_factory=dict)


class Observer:
    """Looks at the files of one branch. ``told`` is called after each look that found something new."""

    def __init__(
        self,
        activity: Activity,
        told: Callable[[Looked, str], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._activity, self._told, self._clock = activity, told, clock
        self._repository: SavedFiles | None = None
        self._base = ""
        self._probe: Probing | None = None
        self._probe_failed = self._closed = False
        self._wanted: str | None = None
        self._saved_at, self._saved_step = 0.0, 0
        self._looking: asyncio.Task[None] | None = None
        self.looked = Looked()

    def watch(self, repository: SavedFiles, base: str, probe: Probing | None) -> None:
        """From now on there are files. A probe takes the place of the static checks."""
        self._repository, self._base, self._probe = repository, base, probe

    def saved(self, commit: str) -> None:
        """The files have changed, and are in this commit."""
        if commit != self._wanted:
            self._wanted, self._saved_at, self._saved_step = commit, self._clock(), self._activity.steps

    async def refresh(self, patience_seconds: float) -> None:
        """Look at what was saved since the last look. One that takes longer than the patience goes on behind."""
        if self._looking is not None and not self._looking.done():
            return
        if self._repository is None or self._wanted is None or self._wanted == self.looked.commit:
            return
        saved = Looked(self._wanted, self._saved_at, self._saved_step)
        self._looking = asyncio.create_task(self._look(self._repository, saved))
        await asyncio.wait({self._looking}, timeout=patience_seconds)

    def observation(self) -> Observation:
        """What is known now."""
        activity, looked = self._activity, self.looked
        return Observation(
            at=self._clock(),
            steps=activity.steps,
            tokens=activity.tokens,
            doing=activity.doing,
            files=looked.files,
            changed_lines=looked.changed_lines,
            changed_at=looked.changed_at,
            changed_step=looked.changed_step,
            checks=looked.checks,
            problems=looked.problems,
            verified=None if activity.verified is None else activity.verified.passed,
            editing=activity.writing or self._wanted != looked.commit,
        )

    async def aclose(self) -> None:
        """End a look that goes on. One that follows, at the finished commit, runs no probe."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self, repository: SavedFiles, saved: Looked) -> None:
        note = ""
        try:
            looked = await self._survey(repository, saved)
            if self._probe is not None and looked.files:
                looked, note = await self._probed(self._probe, looked)
        except SwarmqError as error:  # a look that failed says nothing of the branch
            log.warning("files not looked at", error=str(error))
            looked = saved
        before, self.looked = self.looked, looked
        if note or (before.files, before.checks, before.problems) != (looked.files, looked.checks, looked.problems):
            await self._told(looked, note)

    async def _survey(self, repository: SavedFiles, saved: Looked) -> Looked:
        survey = await repository.survey(self._base, saved.commit or self._base)
        names = tuple(file.shown for file in survey.files[:MOST_FILES])
        looked = replace(saved, files=names, changed_lines=survey.changed_lines)
        if self._probe is not None or not survey.files:
            return looked
        known = self.looked.findings
        contents = await repository.blob_contents(unread_blobs(survey, known), MOST_TOTAL_BYTES)
        found = await check_files(survey, contents, known)
        suspect = suspects(survey, found, known)
        if suspect:
            found |= await self._excused(repository, suspect, found, saved.commit or self._base)
        problems = tuple(told(survey, found))
        return replace(looked, checks=not problems, problems=problems, findings=found)

    async def _excused(
        self, repository: SavedFiles, files: Sequence[ChangedFile], found: dict[str, str | None], commit: str
    ) -> dict[str, str | None]:
        before = await repository.blob_contents([file.before for file in files if file.before], MOST_TOTAL_BYTES)
        seen = any(found[file.blob or ""] == MARKERS for file in files)
        marked = await repository.marked_files(self._base, commit) if seen else frozenset[str]()
        return await excused(files, found, before, marked)

    async def _probed(self, probe: Probing, looked: Looked) -> tuple[Looked, str]:
        """A probe that cannot be run says nothing of the branch. That is told once."""
        if self._closed:
            return replace(looked, checks=self.looked.checks, problems=self.looked.problems), ""
        passed, said = await probe()
        if passed is None:
            note = "" if self._probe_failed else said
            self._probe_failed = True
            return looked, note
        return replace(looked, checks=passed, problems=() if passed else (said,)), ""
