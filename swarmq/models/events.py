"""Events: what a swarm tells while it runs. Typed and versioned; one Redis stream a swarm, one for the fleet."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from swarmq.models.base import Record

INPUT_PREVIEW_CHARACTERS = 200
OUTPUT_PREVIEW_CHARACTERS = 500
MESSAGE_PREVIEW_CHARACTERS = 500


class EventType(StrEnum):
    """In brackets: the keys of ``data``."""

    SWARM_STARTED = "swarm.started"  # task
    SWARM_PLANNED = "swarm.planned"  # subtasks: [{id, name, stage, kind, dependencies}], note
    SWARM_PAUSED = "swarm.paused"  # reason
    SWARM_RESUMED = "swarm.resumed"  # seconds
    STAGE_STARTED = "stage.started"  # stage, branches
    STAGE_FINISHED = "stage.finished"  # stage, succeeded, failed, seconds
    BRANCH_QUEUED = "branch.queued"  # stage
    BRANCH_STARTED = "branch.started"  # worker, specialty, delivery
    BRANCH_STEP = "branch.step"  # step, input_tokens, output_tokens, seconds
    BRANCH_TOOL_CALL = "branch.tool_call"  # tool, input, output, ok, seconds
    BRANCH_MESSAGE = "branch.message"  # text
    BRANCH_THINKING = "branch.thinking"  # text
    BRANCH_OUTPUT = "branch.output"  # text: the final answer
    BRANCH_ERROR = "branch.error"  # error
    BRANCH_RETRY = "branch.retry"  # error, attempt, wait_seconds
    BRANCH_RATE_LIMITED = "branch.rate_limited"  # endpoint, reason: refused, rate, tokens, spacing, concurrency, worker
    BRANCH_OBSERVATION = "branch.observation"  # files, changed_lines, checks, problems, note
    BRANCH_KILLED = "branch.killed"  # reason, score
    BRANCH_FINISHED = "branch.finished"  # exit, steps, error
    BRANCH_CACHED = "branch.cached"  # source
    BRANCH_WAITING = "branch.waiting"  # leader
    BRANCH_RESUMED = "branch.resumed"  # step, continues
    BRANCH_ANEW = "branch.anew"  # source, reason
    BRANCH_PARKED = "branch.parked"  # step
    BRANCH_POD = "branch.pod"  # notice, pod, uid, node, phase, reason, count
    LEASE_LOST = "branch.lease_lost"  # worker
    PROMOTED = "branch.promoted"  # by: verify, score
    VERIFY_STARTED = "verify.started"  # commands, commit
    VERIFY_PASSED = "verify.passed"  # command, seconds, changed, commit
    VERIFY_FAILED = "verify.failed"  # command, exit_code, ending, output, seconds, changed, commit, round, rounds
    MERGED = "merge.merged"  # commit, files, insertions, deletions
    CONFLICT = "merge.conflict"  # files
    RESOLVING = "merge.resolving"  # resolver, files
    REJECTED = "merge.rejected"  # files
    SWARM_FINISHED = "swarm.finished"  # state, branch, commit, error


class Event(Record):
    """One event. ``at`` is Unix seconds; ``id`` is the stream id, empty before it is stored."""

    version: Literal[1] = 1
    id: str = ""
    type: EventType
    at: float
    swarm: str
    subtask: str | None = None
    branch: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


def preview(text: str, characters: int) -> str:
    """The start of a text, marked where it was cut."""
    return text if len(text) <= characters else text[: characters - 1] + "…"
