"""``swarmq agent``: the run of one payload, wherever there is a Python, git and a route to the model.

It is the agent loop of the fleet with other surroundings: the journal is this process's standard output, the
repository comes with the payload or by ``git fetch``, and commits go back through the log. There is no way to ask
anything, so ``swarm_share`` is not among its tools, and the budgets' slice is granted before it starts.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from swarmq.agent.assignment import Assignment, LoopResult
from swarmq.agent.loop import run_agent
from swarmq.agent.prompts import opening_messages, project_instructions, resume_note, retry_note
from swarmq.agent.tools.base import Toolbox, ToolContext
from swarmq.agent.tools.recall import recall
from swarmq.agent.verifying import BranchVerify, VerifyPlace
from swarmq.errors import SwarmqError, UncommittableError, WorkspaceError
from swarmq.models.branch import Exit, Outcome
from swarmq.models.messages import Message
from swarmq.models.plan import Kind
from swarmq.pod.finishing import finished_commit, with_commit
from swarmq.pod.log_journal import LogJournal
from swarmq.pod.payload import Payload, RepositoryAccess
from swarmq.pod.protocol import CheckpointRecord, Encoder, LogRecord, Pack, ResultRecord
from swarmq.providers.registry import Models
from swarmq.settings import Settings
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.environment import child_environment
from swarmq.workspace.packs import MAX_PACK_BYTES, Remote, receive_repository
from swarmq.workspace.shell import Shell, cookie_of
from swarmq.workspace.swarm_repository import CommitInfo, SwarmRepository, Worktree
from swarmq.workspace.worktree_setup import open_worktree, ready_worktree

log = structlog.get_logger()


class PayloadSettings(Settings):
    """Settings from the payload alone: nothing of the machine's own files and variables is mixed in."""

    api_key: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    def secret(self, variable: str) -> str | None:
        return None if self.api_key is None else self.api_key.get_secret_value()


def settings_for(payload: Payload, directory: Path) -> PayloadSettings:
    """What the parts of swarmq that the agent uses go by."""
    model = payload.model
    return PayloadSettings(
        state_dir=directory / "state",
        runtime_dir=directory / "run",
        model=model.spec,
        endpoints={model.spec.partition(":")[0]: model.endpoint},
        api_key=None if model.api_key is None else SecretStr(model.api_key),
    )


async def run_payload(payload: Payload, directory: Path, write: Callable[[str], None]) -> Outcome:
    """Run to the end, and write it as the log's last line. ``directory`` is empty, and the caller's to remove.

    What goes wrong is a value, as in the fleet; cancelling passes through, and then there is no result.
    """
    models = Models(settings_for(payload, directory))
    run = _Run(payload, directory, models, write)
    probing = asyncio.create_task(run.probe())
    try:
        result = await run.result()
        run.send(result)
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        await run.aclose()
        await models.aclose()
    return result.outcome


class _Run:
    """One run: repository, worktree, tools, loop, commit."""

    def __init__(self, payload: Payload, directory: Path, models: Models, write: Callable[[str], None]) -> None:
        self.payload, self.spec, self.directory, self.models = payload, payload.branch, directory, models
        self._write, self._encoder = write, Encoder(payload.nonce)
        self.journal = LogJournal(self.send, payload.slice, models.price(payload.model.spec), payload.entries)
        self.journal.checkpoint = payload.checkpoint
        self._started = time.monotonic()
        self._repository: SwarmRepository | None = None
        self._worktree: Worktree | None = None
        self._shell: Shell | None = None
        self._verify: BranchVerify | None = None

    def send(self, record: LogRecord) -> None:
        self._write(self._encoder.lines(record))

    async def probe(self) -> None:
        """Until cancelled: tell what the agent does."""
        while True:
            self.send(self.journal.observe())
            await asyncio.sleep(self.payload.probe_seconds)

    async def result(self) -> ResultRecord:
        try:
            await self._open()
            return await self._conclude(await self._agent())
        except UncommittableError as error:
            return self._failed(str(error), fault="agent")
        except SwarmqError as error:
            return self._failed(str(error))
        except Exception as error:
            # A bug of ours ends this branch alone, and says so; without a result the log would have to be guessed at.
            log.exception("internal error")
            return self._failed(f"internal error: {type(error).__name__}: {error}")

    async def _open(self) -> None:
        access, spec = self.payload.repository, self.spec
        if access is None:
            return
        origin = self.directory / "repository"
        remote = None if access.url is None else Remote(access.url, access.user, access.password)
        await run_blocking(
            receive_repository,
            origin,
            access.base_commit,
            access.pack,
            shallow=access.shallow,
            remote=remote,
            known=access.known,
        )
        repository = SwarmRepository(
            self.directory / "state", spec.swarm_id, origin, access.base_commit, keeps_merges=False
        )
        self._repository = repository
        if spec.theirs is not None:
            await repository.receive_merge(access.base_commit, spec.theirs, base64.b64decode(access.merge))
        self._worktree = await open_worktree(
            repository, spec, access.base_commit, self.payload.token, self.payload.checkpoint
        )
        if spec.kind is Kind.READ:
            return
        environment = child_environment(self.payload.options.env)
        cookie = cookie_of(spec.swarm_id, f"{spec.id}-{self.payload.token}")
        self._shell = Shell(self._worktree.path, environment, cookie)
        await ready_worktree(repository, self._worktree, self.payload.options, self._shell, self._outputs)

    @property
    def _outputs(self) -> Path:
        return self.directory / "outputs"

    async def _agent(self) -> LoopResult:
        payload, spec = self.payload, self.spec
        root = self._worktree.path if self._worktree is not None else None
        tools = ToolContext(
            root=root,
            kind=spec.kind,
            swarm_id=spec.swarm_id,
            subtask_id=spec.subtask_id,
            branch_id=spec.id,
            shell=self._shell,
            outputs=self._outputs,
        )
        await recall(tools, [*payload.adopted, *payload.entries])
        toolbox = Toolbox(tools)
        self.journal.read_only = frozenset(tool.name for tool in toolbox.specs() if tool.read_only)
        if self._repository is not None and self._worktree is not None and self._shell is not None:
            place = VerifyPlace(self._repository, self._worktree, self._shell, tools.saved.reserve)
            self._verify = BranchVerify(place, payload.verify, payload.options, spec, self._checkpoint, self.journal)
        opening = opening_messages(
            subtask=payload.subtask,
            branch_id=spec.id,
            root=root,
            tools=toolbox.specs(),
            project=await project_instructions(root) if root is not None else "",
            context=payload.context,
            approach=spec.approach,
            verify=payload.verify,
        )
        assignment = Assignment(spec, payload.options, opening, payload.entries, self._note(root), payload.adopted)
        model = await self.models.open(payload.model.spec)
        return await run_agent(assignment, model, toolbox, self.journal, self._checkpoint, verify=self._verify)

    def _note(self, root: Path | None) -> Message | None:
        """What an agent is told that does not begin."""
        if self.payload.entries:
            return resume_note(root)
        if self.payload.retry_error is None:
            return None
        return retry_note(root, self.payload.retry_error, saved=self.payload.checkpoint is not None)

    async def _checkpoint(self) -> None:
        """Send what changed in the worktree, before the record that tells of it."""
        access, repository, worktree = self.payload.repository, self._repository, self._worktree
        if access is None or repository is None or worktree is None or self.spec.kind is not Kind.EDIT:
            return
        if self._verify is not None and self._verify.running:
            return  # what verify writes is not the agent's work
        previous = self.journal.checkpoint
        commit = await repository.checkpoint(worktree, previous)
        if commit is not None:
            self.send(CheckpointRecord(previous=previous, pack=await self._pack(repository, access, commit)))
            self.journal.checkpoint = commit

    async def _pack(self, repository: SwarmRepository, access: RepositoryAccess, commit: str) -> Pack:
        known = [access.base_commit, *filter(None, (self.spec.theirs, self.journal.checkpoint))]
        raw = await repository.pack_of([commit], known, MAX_PACK_BYTES)
        if len(raw) > MAX_PACK_BYTES:
            raise WorkspaceError(
                f"what the agent changed has more than {MAX_PACK_BYTES:,} bytes as git packs it, which is more than a "
                "log should carry: keep large files out of commits, or run this subtask in the fleet"
            )
        return Pack(commit=commit, base64=base64.b64encode(raw).decode())

    async def _conclude(self, loop: LoopResult) -> ResultRecord:
        """Commit what an edit branch left, and refuse what its kind does not allow."""
        outcome = loop.outcome(cost_usd=None, duration_seconds=self._seconds(), continued_from=None)
        outcome = outcome.model_copy(update={"verify": self.journal.verified})
        pack = None
        if outcome.exit in (Exit.COMPLETED, Exit.BUDGET_EXHAUSTED) and self.spec.kind is Kind.EDIT:
            outcome, pack = await self._committed(outcome)
        if not outcome.success:
            await self._checkpoint()
        outcome = outcome.model_copy(update={"checkpoint": self.journal.checkpoint})
        return self._record(outcome, loop, pack)

    async def _committed(self, outcome: Outcome) -> tuple[Outcome, Pack | None]:
        """With the finished commit, if there is one, and what the supervisor lacks of it."""
        access, repository, worktree = self.payload.repository, self._repository, self._worktree
        if access is None or repository is None or worktree is None:
            return outcome, None
        if self._shell is not None:
            await self._shell.aclose()  # what the agent left running may write until then, and not behind the commit
        made = await finished_commit(repository, worktree, self.spec, self.payload.subtask)
        pack = await self._pack(repository, access, made.commit) if isinstance(made, CommitInfo) else None
        return with_commit(outcome, made), pack

    def _failed(self, error: str, fault: Literal["agent", "infrastructure"] = "infrastructure") -> ResultRecord:
        seen = self.journal.observe().observation
        outcome = Outcome(
            exit=Exit.FAILED,
            fault=fault,
            error=error,
            steps=seen.steps,
            duration_seconds=self._seconds(),
            checkpoint=self.journal.checkpoint,
        )
        return self._record(outcome, None, None)

    def _record(self, outcome: Outcome, loop: LoopResult | None, pack: Pack | None) -> ResultRecord:
        return ResultRecord(
            swarm=self.spec.swarm_id,
            branch=self.spec.id,
            entries=self.journal.index,
            outcome=outcome,
            events=(*self.journal.left_events(), *(loop.events if loop is not None else ())),
            rate_limit_wait_seconds=0.0 if loop is None else loop.rate_limit_wait_seconds,
            pack=pack,
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    async def aclose(self) -> None:
        if self._shell is not None:
            await self._shell.aclose()
