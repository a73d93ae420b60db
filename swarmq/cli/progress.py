"""What is known of a running swarm, gathered from its events. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from swarmq.cli.lines import doing, line
from swarmq.models.events import Event, EventType

RECENT_EVENTS = 5
_QUIET = {
    EventType.BRANCH_QUEUED,
    EventType.BRANCH_RATE_LIMITED,
    EventType.BRANCH_STEP,
    EventType.BRANCH_TOOL_CALL,
    EventType.BRANCH_MESSAGE,
    EventType.BRANCH_THINKING,
}
"""Seen in the branches' rows; among the recent events they would drown the rest."""


@dataclass
class BranchRow:
    """A branch, or a subtask that has none yet."""

    id: str
    state: str = "pending"
    steps: int = 0
    adopted_steps: int = 0
    """Those of an earlier swarm, where the branch goes on with its conversation; events count on behind them."""
    tokens: int = 0
    doing: str = ""

    @property
    def rank(self) -> int:
        """Where it is shown when there is no room for all: what moves first."""
        return {"running": 0, "queued": 1, "pending": 2}.get(self.state, 3)


@dataclass
class Progress:
    """A swarm so far. ``started_at`` and ``finished_at`` are Unix seconds, 0 where not yet."""

    swarm_id: str
    task: str = ""
    state: str = "submitted"
    stage: int = -1
    stages: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    branches: dict[str, BranchRow] = field(default_factory=dict)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_EVENTS))

    @property
    def steps(self) -> int:
        return sum(row.steps for row in self.branches.values())

    @property
    def tokens(self) -> int:
        return sum(row.tokens for row in self.branches.values())

    def apply(self, event: Event) -> None:
        """Take in one event; events come in the order of the stream."""
        if event.type not in _QUIET:
            self.recent.append(line(event))
        if event.branch is not None:
            self._apply_to_branch(self.branches.setdefault(event.branch, BranchRow(event.branch)), event)
            return
        data = event.data
        match event.type:
            case EventType.SWARM_STARTED:
                self.task, self.state, self.started_at = str(data.get("task", "")), "planning", event.at
            case EventType.SWARM_PLANNED:
                self._plan(data)
            case EventType.STAGE_STARTED:
                self.state, self.stage = "running", int(data.get("stage", 0))
            case EventType.SWARM_PAUSED:
                self.state = "paused"
            case EventType.SWARM_RESUMED:
                self.state = "running" if self.stage >= 0 else "planning"
            case EventType.SWARM_FINISHED:
                self.state, self.finished_at = str(data.get("state", "finished")), event.at
                for row in self.branches.values():
                    row.state = "not run" if row.state == "pending" else row.state

    def _plan(self, data: dict[str, Any]) -> None:
        subtasks = data.get("subtasks") or []
        self.state = "running"
        self.stages = len({subtask.get("stage") for subtask in subtasks})
        for subtask in subtasks:  # the first branch of a subtask has the subtask's id
            self.branches.setdefault(str(subtask["id"]), BranchRow(str(subtask["id"])))

    def _apply_to_branch(self, row: BranchRow, event: Event) -> None:
        data = event.data
        row.doing = doing(event) or row.doing
        match event.type:
            case EventType.BRANCH_QUEUED | EventType.LEASE_LOST:
                row.state = "queued"
            case EventType.BRANCH_PARKED:
                row.state = "paused"
            case EventType.BRANCH_STARTED | EventType.BRANCH_RESUMED:
                row.state = "running"
                if data.get("continues"):
                    row.adopted_steps = int(data.get("step", 1)) - 1
            case EventType.BRANCH_STEP:
                row.steps = int(data.get("step", row.adopted_steps + row.steps + 1)) - row.adopted_steps
                row.tokens += int(data.get("input_tokens", 0)) + int(data.get("output_tokens", 0))
            case EventType.BRANCH_FINISHED:
                row.state = str(data.get("exit", "done"))
            case EventType.BRANCH_CACHED:
                row.state = "cached"
            case EventType.MERGED:
                row.state = "merged"
            case EventType.CONFLICT:
                row.state = "conflict"
            case EventType.RESOLVING:
                row.state = "resolving"
            case EventType.REJECTED:
                row.state = "rejected"
