"""A branch of a swarm that is tried again goes on with what the earlier swarm's branch said, did and left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmq.agent.adopting import adopt, answers_in
from swarmq.agent.prompts import resume_note, retry_note
from swarmq.errors import NotFoundError, SchemaError
from swarmq.fleet.standing import plan_of
from swarmq.models.branch import BranchRecord, BranchSpec, Outcome
from swarmq.models.messages import Message
from swarmq.models.plan import Subtask
from swarmq.models.retry import Prospect
from swarmq.models.swarm import SubtaskStatus, SwarmRecord
from swarmq.models.transcript import Entry
from swarmq.orchestrator.continuing import Circumstances, Verdict, after_end, may_continue, start_anew
from swarmq.store.store import Store
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.swarm_repository import SwarmRepository


@dataclass(frozen=True)
class Attempt:
    """The newest branch of a subtask that got an answer from the model, in the swarm that ran it."""

    swarm: SwarmRecord
    branch: BranchRecord
    outcome: Outcome
    entries: Sequence[Entry]
    unreadable: str | None = None

    @property
    def source(self) -> str:
        return f"{self.swarm.spec.id}/{self.branch.spec.id}"


@dataclass(frozen=True)
class Continuation:
    """What a branch goes on with. ``error`` is why the attempt ended; ``checkpoint`` is this swarm's own copy."""

    source: str
    entries: tuple[Entry, ...]
    checkpoint: str | None
    error: str


@dataclass(frozen=True)
class Anew:
    """Why there was an attempt, and the branch starts from nothing all the same."""

    source: str
    reason: str


async def last_attempt(store: Store, swarm: SwarmRecord, branch_id: str) -> Attempt | None:
    """In that swarm, else in those that it tried again; None where the branch never got an answer. NotFoundError."""
    while True:
        exists = await store.branches.exists(swarm.spec.id, branch_id)
        branch = await store.branches.load(swarm.spec.id, branch_id) if exists else None
        if branch is not None and branch.outcome is not None:
            try:
                entries = await store.transcripts.load(swarm.spec.id, branch.spec.id)
            except SchemaError as error:
                return Attempt(swarm, branch, branch.outcome, (), str(error))
            if answers_in(entries):
                return Attempt(swarm, branch, branch.outcome, entries)
        if swarm.spec.anew or swarm.spec.retry_of is None:
            return None
        swarm = await store.swarms.load(swarm.spec.retry_of)


async def look_back(
    store: Store,
    swarm: SwarmRecord,
    subtask: Subtask,
    spec: BranchSpec,
    token: int,
    repository: SwarmRepository | None,
) -> Continuation | Anew | None:
    """What a branch of a swarm that tries another again goes on with, where nothing of it was recorded yet.

    A checkpoint that it takes over is noted in its record.
    """
    if swarm.spec.retry_of is None or (token > 1 and await store.transcripts.load(spec.swarm_id, spec.id)):
        return None
    found = await continuation(store, swarm, subtask, spec, token, repository)
    if isinstance(found, Continuation) and found.checkpoint is not None:
        await store.transcripts.checkpoint(spec.swarm_id, spec.id, token, found.checkpoint)
    return found


def note_for(root: Path | None, entries: Sequence[Entry], taken: Continuation | None) -> Message | None:
    """What an agent is told that does not begin: one that moved, or goes on with an earlier attempt. Pure."""
    if entries:
        return resume_note(root)
    return None if taken is None else retry_note(root, taken.error, saved=taken.checkpoint is not None)


async def continuation(
    store: Store,
    swarm: SwarmRecord,
    subtask: Subtask,
    spec: BranchSpec,
    token: int,
    repository: SwarmRepository | None,
) -> Continuation | Anew | None:
    """What a branch without a transcript goes on with; None where there was no attempt, or none is asked for."""
    if swarm.spec.anew or swarm.spec.retry_of is None:
        return None
    try:
        attempt = await last_attempt(store, await store.swarms.load(swarm.spec.retry_of), spec.id)
    except NotFoundError:
        return Anew(swarm.spec.retry_of, "its records are gone (keep_days is over)")
    except SchemaError as error:
        return Anew(swarm.spec.retry_of, str(error))
    if attempt is None:
        return None
    verdict = await _judge(attempt, swarm, subtask, spec, repository)
    if not verdict.continues:
        return Anew(attempt.source, verdict.reason)
    checkpoint = attempt.branch.checkpoint
    if checkpoint is not None and repository is not None and spec.base_commit is not None:
        earlier_id = attempt.swarm.spec.id
        checkpoint = await repository.carry_checkpoint(earlier_id, spec.id, token, checkpoint, spec.base_commit)
        if checkpoint is None:
            return Anew(attempt.source, "the files that it left are gone")
    # Thousands of them hold the loop for a tenth of a second.
    entries = await run_blocking(adopt, attempt.entries, attempt.source, swarm.spec.options.max_output_tokens)
    return Continuation(attempt.source, entries, checkpoint, attempt.outcome.error or attempt.outcome.exit.value)


async def _judge(
    attempt: Attempt, swarm: SwarmRecord, subtask: Subtask, spec: BranchSpec, repository: SwarmRepository | None
) -> Verdict:
    if attempt.unreadable is not None:
        return start_anew(attempt.unreadable)
    before = plan_of(attempt.swarm).subtask(subtask.id)
    now_tree = earlier_tree = None
    if repository is not None and spec.base_commit is not None:
        now_tree = await repository.tree_of(spec.base_commit)
        earlier_base = attempt.branch.spec.base_commit or ""
        same = earlier_base == spec.base_commit
        earlier_tree = now_tree if same else await repository.earlier_tree(attempt.swarm.spec.id, earlier_base)
    return may_continue(
        attempt.outcome,
        attempt.entries,
        _circumstances(attempt.swarm, before, earlier_tree),
        _circumstances(swarm, subtask, now_tree),
    )


def _circumstances(swarm: SwarmRecord, subtask: Subtask, base_tree: str | None) -> Circumstances:
    ids = {other.name: other.id for other in plan_of(swarm).subtasks}
    dependencies = {name: swarm.results[ids[name]].text for name in subtask.dependencies}
    return Circumstances(subtask.kind, subtask.instruction, dependencies, base_tree)


async def prospects(store: Store, swarm: SwarmRecord, *, anew: bool, cache: str) -> list[Prospect]:
    """What trying an ended swarm again will do with each of its subtasks, in plan order; a forecast.

    Other results of dependencies, or other files to start from, can still make a branch start anew.
    """
    if swarm.plan is None:
        return []
    return [await _prospect(store, swarm, subtask, anew=anew, cache=cache) for subtask in swarm.plan.subtasks]


async def _prospect(store: Store, swarm: SwarmRecord, subtask: Subtask, *, anew: bool, cache: str) -> Prospect:
    def told(verdict: Verdict, step: int = 0) -> Prospect:
        how = "continued" if verdict.continues else "anew"
        return Prospect(subtask_id=subtask.id, how=how, step=step, reason=verdict.reason)

    result = swarm.results.get(subtask.id)
    finished = result is not None and (result.success or result.status is SubtaskStatus.CONFLICT)
    if finished and cache == "use":
        reason = "it succeeded" if result is not None and result.success else "its work was finished, and conflicted"
        return Prospect(subtask_id=subtask.id, how="cached", reason=reason)
    if finished:
        return told(start_anew("the cache is bypassed"))
    if anew:
        return told(start_anew("asked for"))
    attempt = await last_attempt(store, swarm, subtask.id)
    if attempt is None:
        return told(start_anew("it had not begun"))
    if attempt.unreadable is not None:
        return told(start_anew(attempt.unreadable))
    verdict = after_end(attempt.outcome, attempt.entries)
    return told(verdict, answers_in(attempt.entries) + 1 if verdict.continues else 0)
