"""A branch: one execution of one subtask, and the outcome it ends with."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import Field

from swarmq.models.base import SCHEMA_VERSION, Record
from swarmq.models.messages import Usage
from swarmq.models.plan import Kind
from swarmq.models.spent import Spent
from swarmq.models.verify import VerifyReport


class BranchState(StrEnum):
    """Where a branch's record stands. ``waiting`` branches have no message yet."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Exit(StrEnum):
    """The one named way in which a branch ended."""

    COMPLETED = "completed"
    MAX_STEPS = "max_steps"
    TIMED_OUT = "timed_out"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"


class BranchSpec(Record):
    """The part of a branch that never changes.

    ``id`` is the subtask's; the other candidates of a race have ``.2``, ``.3`` … behind it, a resolver has ``.r1``.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    swarm_id: str
    id: str
    subtask_id: str
    stage: int
    kind: Kind
    base_commit: str | None = Field(None, description="What the worktree starts from; None without a repository.")
    celery_task_id: str
    candidate: int = Field(0, description="The number in its race, from 1; 0: it does not race.")
    approach: str = Field("", description="What this candidate is told to try.")
    model: str | None = Field(None, description="The candidate's own model.")
    resolves: str | None = Field(None, description="The branch whose merge conflict this one resolves.")
    theirs: str | None = Field(None, description="The commit that conflicts with base_commit.")


class Outcome(Record):
    """What a branch ends with. ``fault`` tells an agent's failure from one of the infrastructure."""

    exit: Exit
    text: str = ""
    error: str | None = None
    fault: Literal["agent", "infrastructure"] | None = None
    steps: int = 0
    tool_calls: int = 0
    retries: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = Field(None, description="None where the price of the model is not known.")
    duration_seconds: float = 0.0
    commit: str | None = Field(None, description="The finished commit, for edit branches that succeeded.")
    checkpoint: str | None = Field(None, description="The last checkpoint commit of a branch that did not.")
    files: tuple[str, ...] = ()
    worktree: str | None = Field(None, description="A worktree that was kept for looking at.")
    cached_from: str | None = Field(None, description="swarm/branch whose result the cache gave.")
    spared: Spent | None = Field(None, description="What that result had used, where the cache gave it.")
    limit: str | None = Field(None, description="The option whose limit ended the branch.")
    continued_from: str | None = Field(None, description="swarm/branch whose conversation it went on with.")
    model_status: int = Field(0, description="HTTP status of the model call that ended the branch; 0 for none.")
    verify: VerifyReport | None = Field(None, description="The last verifying of its files.")

    @property
    def success(self) -> bool:
        return self.exit is Exit.COMPLETED


class Observation(Record):
    """What a running branch tells with each heartbeat."""

    at: float
    steps: int = 0
    tokens: int = 0
    doing: str = ""
    files: tuple[str, ...] = Field((), description="Files that differ from the base, at most 200.")
    changed_lines: int = 0
    changed_at: float = Field(0.0, description="When its files last changed, in Unix seconds; 0: never.")
    changed_step: int = Field(0, description="The step in which its files last changed.")
    checks: bool | None = Field(None, description="Whether the changed files pass their static checks; None: unknown.")
    problems: tuple[str, ...] = Field((), description="What the checks found, at most 5, each at most 200 characters.")
    verified: bool | None = Field(None, description="The last outcome of verify; None: it has not run.")
    editing: bool = Field(False, description="A tool that may change its files is running.")


class BranchRecord(Record):
    """A branch as the store knows it. Times are Unix seconds by the clock of Redis, 0 where not yet."""

    spec: BranchSpec
    state: BranchState
    token: int = 0
    deliveries: int = 0
    lease_until: float = 0.0
    queued_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    worker: str = ""
    cancel_reason: str | None = None
    checkpoint: str | None = Field(None, description="The last checkpoint commit of an edit branch.")
    observation: Observation | None = None
    outcome: Outcome | None = None


def kept_worktrees(branches: Iterable[BranchRecord]) -> frozenset[str]:
    """Paths of worktrees that are kept for somebody to look at: of branches that failed, or lost a race."""
    found = (branch.outcome.worktree for branch in branches if branch.outcome is not None)
    return frozenset(path for path in found if path is not None)
