"""Where a swarm stands: its records, loaded together, and what follows from them. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from swarmq.collapse.scoring import final_score
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.orchestrator.racing import promoted
from swarmq.orchestrator.scheduling import Move, Opening, next_move, opening
from swarmq.store.races import Race
from swarmq.store.stages import StageRecord
from swarmq.store.store import Store


def plan_of(record: SwarmRecord) -> Plan:
    """The swarm's plan; LookupError before it has one."""
    if record.plan is None:
        raise LookupError(f"swarm {record.spec.id} has no plan yet")
    return record.plan


@dataclass(frozen=True)
class Standing:
    """A swarm that has a plan, as one look found it."""

    record: SwarmRecord
    stages: Sequence[StageRecord]
    branches: Sequence[BranchRecord]
    races: Mapping[str, Race]

    @classmethod
    async def load(cls, store: Store, swarm_id: str, record: SwarmRecord | None = None) -> Standing:
        """All as of one moment, as far as it matters: what others do meanwhile must not look like the swarm's end.

        The record comes behind the stages, so that one that is finished has its results in it; and it is all read
        again where a stage was opened meanwhile, whose branches would be there without it. NotFoundError, SchemaError.
        """
        before = record or await store.swarms.load(swarm_id)
        while True:
            stages = await store.stages.load_all(swarm_id, before.stage)
            record = await store.swarms.load(swarm_id)
            branches, races = await store.branches.load_all(swarm_id), await store.races.load(swarm_id)
            after = await store.swarms.load(swarm_id)
            if before.stage == after.stage:
                return cls(record, stages, branches, races)
            before = after

    @property
    def plan(self) -> Plan:
        return plan_of(self.record)

    @property
    def stops(self) -> bool:
        """Whether nothing new is to start."""
        record = self.record
        failed = any(not result.success for result in record.results.values())
        halted = failed and record.spec.options.on_failure == "stop"
        return record.cancel_reason is not None or record.error is not None or halted

    @property
    def open_stages(self) -> list[StageRecord]:
        return [stage for stage in self.stages if stage.state != "finished"]

    @cached_property
    def _of_subtask(self) -> dict[str, list[BranchRecord]]:
        found: dict[str, list[BranchRecord]] = {}
        for branch in self.branches:
            found.setdefault(branch.spec.subtask_id, []).append(branch)
        return found

    def workers_of(self, subtask_id: str) -> list[BranchRecord]:
        """The subtask's branches: one, or the candidates of its race."""
        return [one for one in self._of_subtask.get(subtask_id, ()) if one.spec.resolves is None]

    def resolvers_of(self, subtask_id: str) -> list[BranchRecord]:
        """Branches that were to resolve its merge conflict, oldest first."""
        return [one for one in self._of_subtask.get(subtask_id, ()) if one.spec.resolves is not None]

    def promoted(self, subtask_id: str) -> BranchRecord | None:
        """The branch whose work is to be the subtask's; None while that is open."""
        race = self.races.get(subtask_id)
        return promoted(self.workers_of(subtask_id), race.winner if race is not None else None, final_score)

    def due(self) -> list[Subtask]:
        """Subtasks of open stages whose result can be made now, in plan order.

        In a stage that is not eager those of all its subtasks are made together, when the last branch has ended.
        """
        open_stages = {stage.stage: stage for stage in self.open_stages}
        return [
            subtask
            for subtask in self.plan.subtasks
            if subtask.id not in self.record.results and self._is_due(subtask, open_stages)
        ]

    def _is_due(self, subtask: Subtask, open_stages: Mapping[int, StageRecord]) -> bool:
        branch = self.promoted(subtask.id)
        stage = open_stages.get(branch.spec.stage) if branch is not None else None
        resolved = all(one.state is BranchState.DONE for one in self.resolvers_of(subtask.id))
        return stage is not None and resolved and (stage.eager or stage.complete)

    def closable(self) -> list[StageRecord]:
        """Open stages of which every branch has ended, and every subtask has its result."""
        waiting = {one.spec.stage for one in self.branches if one.spec.subtask_id not in self.record.results}
        return [stage for stage in self.open_stages if stage.complete and stage.stage not in waiting]

    @property
    def opening(self) -> Opening:
        record = self.record
        return opening(self.plan, record.spec.options.schedule, record.results, set(self._of_subtask), record.stage)

    @property
    def move(self) -> Move:
        return next_move(self.opening, stops=self.stops, any_open=bool(self.open_stages))
