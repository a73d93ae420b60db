"""A client without Redis, records to show, and a way to run the program inside a test."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmq.cli.main import main
from swarmq.errors import NotFoundError, UsageError
from swarmq.models.branch import BranchRecord, BranchSpec, BranchState, Exit, Observation, Outcome
from swarmq.models.collapse import ScoreEntry
from swarmq.models.events import Event, EventType
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.retry import Prospect
from swarmq.models.swarm import (
    MergeReport,
    SubtaskResult,
    SubtaskStatus,
    SwarmRecord,
    SwarmResult,
    SwarmSpec,
    SwarmState,
    SwarmStats,
    SwarmStatus,
)
from swarmq.models.transcript import Entry
from swarmq.store.health import FleetLook, Tick
from swarmq.store.server import ServerInfo

SWARM = "k3x9qm2p4t"
PLAN = Plan(
    subtasks=(
        Subtask(name="fix parser", instruction="Mend the parser."),
        Subtask(name="fix dates", instruction="Mend the dates.", priority=3),
        Subtask(name="run tests", instruction="Run them.", kind=Kind.VERIFY, dependencies=("fix parser", "fix dates")),
    )
)


def spec(**changes: Any) -> SwarmSpec:
    values: dict[str, Any] = {
        "id": SWARM,
        "task": "Mend it all",
        "options": SwarmOptions(model="openai:m"),
        "repo": "/repo",
        "base_commit": "b" * 40,
        "base_branch": "main",
        "created_at": 1000.0,
    }
    return SwarmSpec(**{**values, **changes})


def result(state: SwarmState = SwarmState.SUCCEEDED, **changes: Any) -> SwarmResult:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=400)
    subtasks = tuple(
        SubtaskResult(
            subtask_id=subtask.id,
            name=subtask.name,
            stage=stage,
            kind=subtask.kind,
            status=SubtaskStatus.SUCCEEDED,
            steps=4,
            usage=usage,
            duration_seconds=2.0,
            merge=MergeReport(status="merged", files=("a.py",), insertions=3, deletions=1) if stage == 0 else None,
        )
        for stage, members in enumerate(PLAN.stages)
        for subtask in members
    )
    values: dict[str, Any] = {
        "id": SWARM,
        "state": state,
        "report": "## Report\nAll is well.\n",
        "subtasks": subtasks,
        "stats": SwarmStats(total_steps=12, wall_seconds=5.0, usage=usage),
        "branch": f"swarmq/{SWARM}",
        "commit": "c" * 40,
        "base_branch": "main",
    }
    return SwarmResult(**{**values, **changes})


def record(state: SwarmState = SwarmState.SUCCEEDED, **changes: Any) -> SwarmRecord:
    values: dict[str, Any] = {
        "spec": spec(),
        "state": state,
        "plan": PLAN,
        "stage": 1,
        "started_at": 1001.0,
        "finished_at": 1006.0 if state.final else 0.0,
        "result": result(state) if state.final else None,
    }
    return SwarmRecord(**{**values, **changes})


def branch(branch_id: str, state: BranchState = BranchState.DONE, **changes: Any) -> BranchRecord:
    outcome = Outcome(exit=Exit.COMPLETED, text="done \x1b[31mred", steps=4, commit="d" * 40, files=("a.py",))
    values: dict[str, Any] = {
        "spec": BranchSpec(
            swarm_id=SWARM,
            id=branch_id,
            subtask_id=branch_id.partition(".")[0],
            stage=0,
            kind=Kind.EDIT,
            base_commit="b" * 40,
            celery_task_id=f"{SWARM}.{branch_id}",
        ),
        "state": state,
        "token": 1,
        "queued_at": 1001.0,
        "started_at": 1002.0,
        "worker": "agents@host",
        "outcome": outcome if state is BranchState.DONE else None,
        "observation": Observation(at=1004.0, steps=2, tokens=50, doing="bash ls"),
    }
    return BranchRecord(**{**values, **changes})


def event(type_: EventType, at: float = 1000.0, of: str | None = None, **data: Any) -> Event:
    """``of`` is the branch; SWARM_FINISHED has a ``branch`` among its data."""
    return Event(id=f"{int(at * 1000)}-0", type=type_, at=at, swarm=SWARM, subtask=of, branch=of, data=data)


def story() -> list[Event]:
    """The events of a small swarm."""
    subtasks: list[dict[str, Any]] = [
        {"id": subtask.id, "name": subtask.name, "stage": stage, "kind": subtask.kind.value}
        for stage, members in enumerate(PLAN.stages)
        for subtask in members
    ]
    return [
        event(EventType.SWARM_STARTED, 1000, task="Mend it all"),
        event(EventType.SWARM_PLANNED, 1001, subtasks=subtasks, note=None),
        event(EventType.STAGE_STARTED, 1001, stage=0, branches=["fix-parser", "fix-dates"]),
        event(EventType.BRANCH_QUEUED, 1001, "fix-parser", stage=0),
        event(EventType.BRANCH_STARTED, 1002, "fix-parser", worker="agents@host", specialty="x", delivery=1),
        event(EventType.BRANCH_STEP, 1003, "fix-parser", step=1, input_tokens=900, output_tokens=100, seconds=0.5),
        event(EventType.BRANCH_TOOL_CALL, 1003, "fix-parser", tool="bash", input="ls", output="a", ok=True, seconds=1),
        event(EventType.BRANCH_FINISHED, 1004, "fix-parser", exit="completed", steps=1, error=None),
        event(EventType.MERGED, 1005, "fix-parser", commit="c" * 40, files=["a.py"], insertions=3, deletions=1),
        event(EventType.SWARM_FINISHED, 1006, state="succeeded", branch=f"swarmq/{SWARM}", commit="c" * 40, error=None),
    ]


@dataclass
class FakeHandle:
    client: FakeClient
    id: str = SWARM
    joined: bool = False

    async def record(self) -> SwarmRecord:
        return self.client.swarm

    async def status(self) -> SwarmStatus:
        swarm = self.client.swarm
        figures: dict[str, Any] = {"stage": swarm.stage, "stages": 2, "steps": 1200, "tokens": 34567, "cost_usd": 1.5}
        return SwarmStatus(id=self.id, state=swarm.state, task=swarm.spec.task, created_at=1000.0, **figures)

    async def branches(self) -> list[BranchRecord]:
        return self.client.branch_records

    async def scores(self) -> list[ScoreEntry]:
        return self.client.scores

    async def transcript(self, branch_id: str) -> list[Entry]:
        self.client.calls.append(("transcript", branch_id))
        return self.client.entries

    async def diff(self, branch: str | None = None, *, stat: bool = False) -> str:
        self.client.calls.append(("diff", branch, stat))
        return self.client.diff

    async def merge(self, into: str | None = None) -> str:
        self.client.calls.append(("merge", into))
        return into or "main"

    async def cancel(self, reason: str = "", branch: str | None = None) -> bool:
        self.client.calls.append(("cancel", reason, branch))
        return not self.client.swarm.state.final

    async def pause(self, reason: str = "") -> bool:
        self.client.calls.append(("pause", reason))
        return not self.client.swarm.state.final

    async def resume(self) -> bool:
        self.client.calls.append(("resume",))
        return not self.client.swarm.state.final

    async def prospects(self, *, anew: bool = False, **options: Any) -> list[Prospect]:
        SwarmOptions.parse(options)
        return [
            Prospect(subtask_id="fix-parser", how="cached", reason="it succeeded"),
            Prospect(subtask_id="fix-dates", how="continued", step=5, reason="it was cancelled"),
            Prospect(subtask_id="run-tests", how="anew", reason="it had not begun"),
        ]

    async def retry_failed(self, *, anew: bool = False, **options: Any) -> FakeHandle:
        self.client.calls.append(("retry", anew, options))
        if self.client.interrupt_submit:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        return FakeHandle(self.client, "n3w0000000", joined=options.get("idempotency_key") == "known")

    async def events(self, after: str = "0") -> AsyncIterator[Event]:
        for item in self.client.events:
            yield item
        if self.client.interrupt:
            raise KeyboardInterrupt


@dataclass
class FakeEvents:
    """``client.store.events``."""

    client: FakeClient

    async def read(self, swarm_id: str, after: str = "0", **_: Any) -> list[Event]:
        ids = [item.id for item in self.client.events]
        return self.client.events[ids.index(after) + 1 :] if after in ids else self.client.events


@dataclass
class FakeHealth:
    """``client.store.health``."""

    client: FakeClient

    async def look(self, queues: Sequence[str], only: str | None = None) -> FleetLook:
        return self.client.look


class FakeSwarms:
    """``client.store.swarms``."""

    async def by_key(self, idempotency_key: str) -> str | None:
        return SWARM if idempotency_key == "known" else None


@dataclass
class FakeStore:
    events: FakeEvents
    health: FakeHealth
    swarms: FakeSwarms = field(default_factory=FakeSwarms)


def fleet_look(**changes: Any) -> FleetLook:
    """A sound fleet without swarms, at this moment."""
    now = time.time()
    server = ServerInfo("/run/valkey.sock", "valkey", "9.1")
    values = {"now": now, "server": server, "tick": Tick(now - 2, 10), "waiting": {"swarmq.agents": 0}}
    return FleetLook(**{**values, **changes})


@dataclass
class FakeClient:
    swarm: SwarmRecord = field(default_factory=record)
    branch_records: list[BranchRecord] = field(default_factory=lambda: [branch("fix-parser"), branch("fix-dates")])
    events: list[Event] = field(default_factory=story)
    entries: list[Entry] = field(default_factory=list)
    scores: list[ScoreEntry] = field(default_factory=list)
    diff: str = "diff --git a/x b/x\n+caf\udce9\n"
    statuses: Sequence[SwarmStatus] = ()
    workers_alive: Sequence[dict[str, Any]] = ()
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    interrupt: bool = False
    interrupt_submit: bool = False
    look: FleetLook = field(default_factory=fleet_look)

    @property
    def store(self) -> FakeStore:
        return FakeStore(FakeEvents(self), FakeHealth(self))

    async def get(self, swarm_id: str) -> FakeHandle:
        if swarm_id in ("last", "-") or SWARM.startswith(swarm_id):
            return FakeHandle(self)
        raise NotFoundError(f"no swarm {swarm_id!r}")

    async def list(self, limit: int = 50) -> Sequence[SwarmStatus]:
        return self.statuses[:limit]

    async def submit(self, task: str, **options: Any) -> FakeHandle:
        self.calls.append(("submit", task, options))
        if options.get("idempotency_key") == "refuse":
            raise UsageError("refused")
        if self.interrupt_submit:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        return FakeHandle(self, joined=options.get("idempotency_key") == "known")

    async def workers(self) -> Sequence[dict[str, Any]]:
        return self.workers_alive

    async def cache_stats(self) -> dict[str, int]:
        return {"entries": 2, "size_bytes": 12345}

    async def cache_clear(self) -> int:
        return 2

    async def gc(self, *, dry_run: bool = False) -> Sequence[str]:
        self.calls.append(("gc", dry_run))
        return ["/state/swarms/x: no record of this swarm"]


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Cli:
    client: FakeClient
    directory: Path
    read: Callable[[], Any]

    def run(self, *arguments: str) -> Ran:
        code = main(arguments)
        out, err = self.read()
        return Ran(code, out, err)
