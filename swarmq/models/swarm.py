"""A swarm: one submitted task, its results and its figures."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from swarmq.models.base import SCHEMA_VERSION, Record
from swarmq.models.branch import Exit
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan
from swarmq.models.spent import Spent
from swarmq.models.verify import VerifyReport


class SwarmState(StrEnum):
    """Where a swarm stands; the last four are final."""

    SUBMITTED = "submitted"
    PLANNING = "planning"
    RUNNING = "running"
    FINISHING = "finishing"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = {SwarmState.SUCCEEDED, SwarmState.PARTIAL, SwarmState.FAILED, SwarmState.CANCELLED}


class SubtaskStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    CONFLICT = "conflict"


class SwarmSpec(Record):
    """The part of a swarm that never changes. ``repo`` is an absolute path; None for a task without files."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    task: str
    context: str = Field("", description="A previous value of the producer's canvas, as text.")
    options: SwarmOptions
    repo: str | None = None
    base_commit: str | None = None
    base_branch: str | None = Field(None, description="The branch that was checked out; None when detached.")
    plan: Plan | None = Field(None, description="A plan given by the producer.")
    created_at: float
    celery_task_id: str = Field("", description="The id of the producer's swarmq.swarm message.")
    retry_of: str | None = Field(None, description="The ended swarm that this one tries again.")
    anew: bool = Field(False, description="Of a retry: branches that failed start from nothing.")


class MergeReport(Record):
    """What merging a branch did. ``diffs`` holds, for a conflict, both sides' diffs per file.

    ``rejected``: the merged tree did not pass verify, and the integration branch stayed what it was.
    """

    status: Literal["merged", "empty", "conflict", "rejected", "unmerged"]
    commit: str | None = None
    files: tuple[str, ...] = ()
    insertions: int = 0
    deletions: int = 0
    conflicts: tuple[str, ...] = ()
    diffs: dict[str, tuple[str, str]] = Field(default_factory=dict, description="file -> (integrated, branch).")
    verify: VerifyReport | None = Field(None, description="What verifying the merged tree came to.")


class CandidateResult(Record):
    """One branch of a raced subtask, for the record: the promoted one's work is the subtask's."""

    branch_id: str
    promoted: bool
    exit: Exit
    model: str | None = None
    approach: str = ""
    score: float | None = Field(None, ge=0, le=1, description="By the collapse controller; None: never scored.")
    verified: bool | None = None
    steps: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = Field(None, description="None where the price of the model is not known.")
    duration_seconds: float = 0.0
    error: str | None = None


class DeclaredFiles(Record):
    """What a branch changed against what its subtask had declared. Both empty: exactly that."""

    undeclared: tuple[str, ...] = Field((), description="Files that it changed and that nothing declared.")
    untouched: tuple[str, ...] = Field((), description="Declared paths and globs of which it changed no file.")


class SubtaskResult(Record):
    """What became of a subtask."""

    subtask_id: str
    name: str
    stage: int
    kind: Kind
    status: SubtaskStatus
    branch_id: str | None = None
    text: str = ""
    error: str | None = None
    fault: Literal["agent", "infrastructure"] | None = None
    steps: int = 0
    tool_calls: int = 0
    retries: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = Field(None, description="None where the price of the model is not known.")
    duration_seconds: float = 0.0
    merge: MergeReport | None = None
    declared: DeclaredFiles | None = Field(
        None, description="None where the plan declares nothing, or nothing changed."
    )
    worktree: str | None = None
    cached: bool = False
    spared: Spent | None = Field(None, description="What the result had used where it was made, if it was cached.")
    continued_from: str | None = None
    limit: str | None = None
    verify: VerifyReport | None = Field(None, description="The last verifying in the branch's worktree.")
    candidates: tuple[CandidateResult, ...] = Field((), description="All branches of a race.")
    resolved_by: str | None = Field(None, description="The branch that resolved the merge conflict.")

    @property
    def success(self) -> bool:
        return self.status is SubtaskStatus.SUCCEEDED


class Artifact(Record):
    """What a subtask added to the result branch. Its patch is ``handle.diff(branch_id)``."""

    subtask_id: str
    branch_id: str
    commit: str
    files: tuple[str, ...]


class StageStats(Record):
    stage: int
    subagents: int
    max_steps: int
    total_steps: int
    seconds: float


class Baseline(Record):
    """What another swarm needed for the same task: one agent alone, unless its producer named it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    swarm: str
    steps: int
    tokens: int
    cost_usd: float | None
    wall_seconds: float


class SwarmStats(Record):
    """Figures of a finished swarm (S3)."""

    stages: tuple[StageStats, ...] = ()
    critical_path: tuple[str, ...] = Field((), description="Names along dependencies that took longest together.")
    critical_path_seconds: float = Field(0.0, description="No number of workers makes the same work faster.")
    critical_path_steps: int = Field(0, description="The most steps along dependencies; maybe on another path.")
    total_steps: int = 0
    tool_calls: int = 0
    wall_seconds: float = 0.0
    sequential_seconds: float = 0.0
    speedup: float = Field(0.0, description="sequential_seconds over wall_seconds.")
    baseline: Baseline | None = None
    speedup_over_baseline: float | None = Field(None, description="Its wall time over that of this swarm.")
    usage: Usage = Usage()
    cost_usd: float | None = Field(None, description="None where the price of a model that was called is not known.")
    cache_hits: int = 0
    cache_misses: int = 0
    cache_waits: int = Field(0, description="Branches that waited for equal work of another.")
    saved_by_cache: Spent = Field(Spent(), description="What the results from the cache had used where they were made.")
    saved_by_collapse: Spent = Field(Spent(), description="An estimate of what stopped candidates would have used.")
    retries: int = 0
    rate_limit_wait_seconds: float = 0.0
    lost_leases: int = 0


class SwarmResult(Record):
    """The end of a swarm. ``branch`` is the result branch in the user's repository, ``commit`` its tip."""

    id: str
    state: SwarmState
    report: str
    error: str | None = None
    limit: str | None = None
    subtasks: tuple[SubtaskResult, ...] = ()
    stats: SwarmStats = SwarmStats()
    branch: str | None = None
    commit: str | None = None
    base_branch: str | None = Field(None, description="What merging moves: checked out at submit; None when detached.")
    answer: str | None = Field(None, description="The synthesis over all results, where asked for.")

    @property
    def success(self) -> bool:
        return self.state is SwarmState.SUCCEEDED

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """What was merged, in plan order; the whole patch is ``handle.diff()``."""
        merged = ((subtask, subtask.merge) for subtask in self.subtasks if subtask.branch_id is not None)
        return tuple(
            Artifact(
                subtask_id=subtask.subtask_id, branch_id=subtask.branch_id or "", commit=merge.commit, files=merge.files
            )
            for subtask, merge in merged
            if merge is not None and merge.status == "merged" and merge.commit is not None
        )

    def compact(self) -> dict[str, Any]:
        """The value that a producer's canvas gets: small; the rest is read through the client."""
        return {
            "id": self.id,
            "success": self.success,
            "state": self.state.value,
            "report": self.answer or self.report[:10_000],
            "branch": self.branch,
            "commit": self.commit,
        }


class SwarmRecord(Record):
    """A swarm as the store knows it. ``canvases``: what is to be called for each producer that is still to be told."""

    spec: SwarmSpec
    state: SwarmState
    plan: Plan | None = None
    stage: int = -1
    cancel_reason: str | None = None
    paused_at: float = Field(0.0, description="Since when no new step starts; 0: it is not paused.")
    pause_reason: str | None = None
    canvases: tuple[dict[str, Any], ...] = ()
    recorded_at: float = Field(0.0, description="By the clock of Redis, as the times below; the producer's is in spec.")
    started_at: float = 0.0
    finished_at: float = 0.0
    results: dict[str, SubtaskResult] = Field(default_factory=dict)
    result: SwarmResult | None = None
    error: str | None = None
    limit: str | None = Field(None, description="The option whose limit is the error.")


class SwarmStatus(Record):
    """A short, cheap view for lists and polling. ``paused``: no new step starts; ``state`` stays what it is."""

    id: str
    state: SwarmState
    task: str
    stage: int
    stages: int
    subtasks: dict[str, int] = Field(default_factory=dict, description="status -> count")
    steps: int = 0
    tokens: int = 0
    cost_usd: float | None = Field(None, description="So far; None where the price of a model is not known.")
    paused: bool = False
    pause_reason: str | None = None
    created_at: float
    finished_at: float = 0.0
    branch: str | None = None
