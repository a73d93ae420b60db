"""What a branch's holder does: worktree, tools, the agent loop, and the commit at the end."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from swarmq.agent.adopting import answers_in
from swarmq.agent.assignment import Assignment, LoopResult, Parked
from swarmq.agent.loop import run_agent
from swarmq.agent.narration import branch_event
from swarmq.agent.ports import MODEL_CALL, Leaving
from swarmq.agent.prompts import opening_messages, project_instructions
from swarmq.agent.tools.base import Toolbox, ToolContext
from swarmq.agent.tools.recall import recall
from swarmq.agent.verifying import BranchVerify, VerifyPlace
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import (
    DiskFullError,
    EnvironmentFault,
    LeaseLost,
    SchemaError,
    StoreError,
    ToolError,
    UncommittableError,
    UsageError,
)
from swarmq.fleet.beginning import announce, look_back
from swarmq.fleet.continuing import Continuation, note_for
from swarmq.fleet.journal import StoreJournal
from swarmq.fleet.observing import observer_of, watch_files
from swarmq.fleet.planning import model_of
from swarmq.fleet.resolving import task_of
from swarmq.fleet.result_cache import EqualWork
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.spending import price_of
from swarmq.fleet.stages import repository_of
from swarmq.fleet.standing import plan_of
from swarmq.models.branch import BranchRecord, Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.plan import Kind, Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.orchestrator.context_text import dependency_context
from swarmq.orchestrator.verifying import branch_commands
from swarmq.pod.finishing import finished_commit, with_commit
from swarmq.store.branches import Claim
from swarmq.workspace.environment import child_environment
from swarmq.workspace.shell import Shell, cookie_of, kill_all
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree
from swarmq.workspace.worktree_setup import open_worktree, ready_worktree

log = structlog.get_logger()


class BranchWork:
    """One holder's work on one branch. ``run`` returns the outcome; failures of the agent are values."""

    def __init__(self, runtime: Runtime, claim: Claim) -> None:
        if claim.record is None:
            raise LookupError("a claim without a record cannot be worked on")
        self.runtime, self.claim = runtime, claim
        self.record: BranchRecord = claim.record
        self.swarm_id, self.branch_id = claim.record.spec.swarm_id, claim.record.spec.id
        self.journal = StoreJournal(runtime.store, claim.record.spec, claim.token)
        self.observer = observer_of(self.journal, runtime.store, claim.record.spec)
        self.equal: EqualWork | None = None
        self._started = time.monotonic()
        self._repository: SwarmRepository | None = None
        self._worktree: Worktree | None = None
        self._shell: Shell | None = None
        self._checkpoint = claim.record.checkpoint
        self._continuation: Continuation | None = None
        self._continued_from: str | None = None
        self._verify: BranchVerify | None = None
        self._leaving = Leaving()

    async def run(self) -> Outcome | None:
        """Work to the end; None where the branch is to be given back: its swarm is paused, or ``leave`` was called.

        LeaseLost and StoreError pass: without the record there is nobody to tell. DiskFullError passes as well: the
        lease runs out, and the next holder goes on when, or where, there is space. That counts as a delivery, so a
        disk that stays full fails the branch.
        """
        try:
            return await self._run()
        except Parked:
            return None
        except (LeaseLost, StoreError, DiskFullError):
            raise
        except UncommittableError as error:
            return await self._failed(str(error), fault="agent")
        except (EnvironmentFault, SchemaError, UsageError, ToolError) as error:
            return await self._failed(str(error))
        except Exception as error:  # a bug of ours must end this branch alone, with its reason, and not the stage
            log.exception("internal error")
            return await self._failed(f"internal error: {type(error).__name__}: {error}")
        finally:
            await self.observer.aclose()
            if self._shell is not None:
                await self._shell.aclose()

    async def _run(self) -> Outcome:
        swarm = await self.runtime.store.swarms.load(self.swarm_id)
        structlog.contextvars.bind_contextvars(subtask=self.record.spec.subtask_id)
        self._repository = repository_of(self.runtime, swarm)
        subtask = await task_of(self.runtime, swarm, self.record.spec, self._repository)
        await announce(self.runtime, self.claim, self.record.spec, subtask)
        for token in range(1, self.claim.token):  # shells outlive a killed worker and keep editing
            await kill_all(self._cookie(token))
        self.equal = EqualWork(self.runtime, swarm, subtask, self.record.spec, self._repository)
        hit = await self.equal.find_or_go_on(self.claim.token, self.journal.tell)
        if hit is not None:
            return hit
        self._started = time.monotonic()  # what it waited for others is not its own time
        self._continuation = found = await look_back(self.runtime, self.claim, swarm, subtask, self._repository)
        if found is not None:
            self._checkpoint = found.checkpoint
        await self._open_worktree(swarm)
        result = await self._agent(swarm, subtask)
        outcome = await self._conclude(subtask, result)
        if outcome.success:
            await self.equal.keep(outcome)
        return outcome

    def leave(self) -> bool:
        """Have ``run`` end once the step under way is recorded. False where none is: it is to be cancelled.

        A model call that is cut off is paid for twice; of a tool call that is, nobody knows what it did.
        """
        self._leaving.asked = bool(self.journal.calls) or self.journal.doing == MODEL_CALL
        if self._leaving.asked:
            log.info("to be handed over when its step has ended", doing=self.journal.doing)
        return self._leaving.asked

    def event(self, type_: EventType, **data: object) -> Event:
        return branch_event(self.record.spec, type_, data)

    async def _open_worktree(self, swarm: SwarmRecord) -> None:
        spec, repository = self.record.spec, self._repository
        if repository is None or spec.base_commit is None:
            return
        worktree = await open_worktree(repository, spec, spec.base_commit, self.claim.token, self._checkpoint)
        self._worktree = worktree
        if spec.kind is Kind.READ:
            return
        environment = child_environment(swarm.spec.options.env)
        self._shell = Shell(worktree.path, environment, self._cookie(self.claim.token))
        await ready_worktree(repository, worktree, swarm.spec.options, self._shell, self.outputs_dir())
        watch_files(self.observer, repository, worktree, self._shell, swarm.spec.options)

    def _cookie(self, token: int) -> str:
        """One per holder: who was paused, and finds its lease lost, must not end the processes of the new holder."""
        return cookie_of(self.swarm_id, f"{self.branch_id}-{token}")

    async def _agent(self, swarm: SwarmRecord, subtask: Subtask) -> LoopResult:
        store, spec = self.runtime.store, self.record.spec
        entries = await store.transcripts.load(self.swarm_id, self.branch_id) if self.claim.token > 1 else []
        model_spec = spec.model or model_of(self.runtime, swarm)
        self.journal.price = price_of(self.runtime.models, swarm.spec.options, model_spec)
        self.journal.resume(entries)
        adopted = self._continuation.entries if self._continuation is not None else ()
        self._continued_from = next((entry.adopted_from for entry in (*entries, *adopted) if entry.adopted_from), None)
        if entries or adopted:
            step, continues = answers_in([*entries, *adopted]) + 1, None if entries else self._continued_from
            event = self.event(EventType.BRANCH_RESUMED, step=step, continues=continues)
            await store.events.emit(self.swarm_id, event)
        root = self._worktree.path if self._worktree is not None else None
        tools = ToolContext(
            root=root,
            kind=spec.kind,
            swarm_id=self.swarm_id,
            subtask_id=spec.subtask_id,
            branch_id=self.branch_id,
            shell=self._shell,
            shared=store.shared.bound(self.swarm_id, self.branch_id, self.claim.token),
            outputs=self.outputs_dir(),
        )
        await recall(tools, [*adopted, *entries])
        toolbox, options = Toolbox(tools), swarm.spec.options
        self.journal.read_only = frozenset(one.name for one in toolbox.specs() if one.read_only)
        commands = branch_commands(options, subtask) if self._shell is not None else ()
        if self._repository is not None and self._worktree is not None and self._shell is not None:
            place = VerifyPlace(self._repository, self._worktree, self._shell, tools.saved.reserve)
            slots = self.runtime.verify_slots
            self._verify = BranchVerify(place, commands, options, spec, self.checkpoint, self.journal, slots)
        model = await self.runtime.models.open(model_spec)
        opening = opening_messages(
            subtask=subtask,
            branch_id=self.branch_id,
            root=root,
            tools=toolbox.specs(),
            project=await project_instructions(root) if root is not None else "",
            context=dependency_context(plan_of(swarm), subtask, swarm.results, model.context_window_tokens),
            approach=spec.approach,
            verify=commands,
        )
        note = note_for(root, entries, self._continuation)
        assignment = Assignment(spec, options, tuple(opening), tuple(entries), note, adopted)
        return await run_agent(
            assignment, model, toolbox, self.journal, self.checkpoint, verify=self._verify, leaving=self._leaving
        )

    def outputs_dir(self) -> Path:
        return self.runtime.settings.state_dir / "swarms" / self.swarm_id / "outputs" / self.branch_id

    async def checkpoint(self) -> None:
        """Save the worktree's state as a commit and note it in the record; nothing where nothing changed.

        Nothing either while verify runs, or behind one that was stopped: what it wrote is not the agent's work.
        """
        repository, worktree = self._repository, self._worktree
        if repository is None or worktree is None or self.record.spec.kind is not Kind.EDIT:
            return
        if self._verify is not None and self._verify.running:
            return
        commit = await repository.checkpoint(worktree, self._checkpoint)
        if commit is not None:
            self._checkpoint = commit
            self.observer.saved(commit)
            reached(CrashPoint.CHECKPOINT_RECORDED)
            await self.runtime.store.transcripts.checkpoint(self.swarm_id, self.branch_id, self.claim.token, commit)

    async def _conclude(self, subtask: Subtask, result: LoopResult) -> Outcome:
        """Commit what an edit branch left, refuse what its kind does not allow, and drop or keep the worktree."""
        if result.events:
            await self.runtime.store.events.emit(self.swarm_id, *result.events)
        outcome = result.outcome(
            cost_usd=self.journal.cost_usd,
            duration_seconds=self._duration(),
            continued_from=self._continued_from,
        ).model_copy(update={"verify": self.journal.verified})
        if result.retries or result.rate_limit_wait_seconds:
            await self.runtime.store.swarms.add(
                self.swarm_id, retries=result.retries, rate_limit_wait_seconds=result.rate_limit_wait_seconds
            )
        # A limit says nothing against the work: it is committed, and not merged.
        if outcome.success or outcome.exit is Exit.BUDGET_EXHAUSTED:
            outcome = await self._committed(subtask, outcome)
        if not outcome.success:
            await self.checkpoint()
            return self._with_kept_worktree(outcome)
        repository, worktree = self._repository, self._worktree
        if repository is None or worktree is None or self.record.spec.kind is Kind.READ:
            return outcome  # a reader's tools cannot write; the shared checkout is checked by open_reader
        await repository.remove_worktree(worktree)
        self._worktree = None
        return outcome

    async def _committed(self, subtask: Subtask, outcome: Outcome) -> Outcome:
        """The outcome with the commit of an edit branch."""
        repository, worktree, spec = self._repository, self._worktree, self.record.spec
        if repository is None or worktree is None or spec.kind is not Kind.EDIT:
            return outcome
        if self._shell is not None:
            await self._shell.aclose()  # what the agent left running may write until then, and not behind the commit
        return with_commit(outcome, await finished_commit(repository, worktree, spec, subtask))

    def _with_kept_worktree(self, outcome: Outcome) -> Outcome:
        own = self._worktree is not None and self.record.spec.kind is not Kind.READ
        path = str(self._worktree.path) if own and self._worktree is not None else None
        return outcome.model_copy(update={"worktree": path, "checkpoint": self._checkpoint})

    async def cancelled(self, reason: str) -> Outcome:
        """The outcome of a branch that was stopped; ``run`` has been cancelled and cleaned up."""
        try:
            await self.checkpoint()
        except EnvironmentFault as error:
            log.warning("no checkpoint of the cancelled branch", error=str(error))
        return self._with_kept_worktree(self._ended(Exit.CANCELLED, reason))

    async def _failed(self, error: str, fault: str = "infrastructure") -> Outcome:
        return self._with_kept_worktree(self._ended(Exit.FAILED, error).model_copy(update={"fault": fault}))

    def _ended(self, exit_: Exit, error: str) -> Outcome:
        return self.journal.ended(exit_, error, duration_seconds=self._duration(), continued_from=self._continued_from)

    def _duration(self) -> float:
        return time.monotonic() - self._started
