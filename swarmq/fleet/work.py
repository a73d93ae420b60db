"""Where a holder does its branch's work: in a worktree of this worker, or in a pod."""

from __future__ import annotations

from typing import Protocol

from swarmq.collapse.observing import Observer
from swarmq.fleet.branch_work import BranchWork
from swarmq.fleet.journal import StoreJournal
from swarmq.fleet.pod_work import PodWork
from swarmq.fleet.result_cache import EqualWork
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchRecord, Outcome
from swarmq.models.events import Event, EventType
from swarmq.store.branches import Claim


class Work(Protocol):
    """What claims and leases have to do with. swarmq.fleet.branch_work.BranchWork says what each means."""

    @property
    def claim(self) -> Claim: ...
    @property
    def swarm_id(self) -> str: ...
    @property
    def branch_id(self) -> str: ...
    @property
    def journal(self) -> StoreJournal: ...
    @property
    def equal(self) -> EqualWork | None: ...
    @property
    def record(self) -> BranchRecord: ...
    @property
    def observer(self) -> Observer: ...
    def event(self, type_: EventType, **data: object) -> Event: ...
    async def run(self) -> Outcome | None: ...
    def leave(self) -> bool: ...
    async def checkpoint(self) -> None: ...
    async def cancelled(self, reason: str) -> Outcome: ...


async def work_for(runtime: Runtime, claim: Claim, swarm_id: str) -> Work:
    """As the swarm's placement has it."""
    in_pod = await runtime.store.swarms.placement(swarm_id) == "pod"
    return PodWork(runtime, claim) if in_pod else BranchWork(runtime, claim)
