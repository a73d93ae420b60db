"""``swarmq.finish_stage``: what branches left is merged, subtasks get their results, and the swarm goes on.

It is the chord's body and its errback, and what the last branch and ``reconcile`` call; in an eager stage each branch
calls it. It reads records only, does what is due, and each of its sub-steps is recorded, so that a crash resumes there.
"""

from __future__ import annotations

import structlog

from swarmq.agent.narration import branch_event
from swarmq.collapse.scoring import final_score
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import UsageError
from swarmq.fleet.claims import held_job
from swarmq.fleet.dispatch import branch_task_id
from swarmq.fleet.merging import MERGE, merge
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import go_on, repository_of
from swarmq.fleet.standing import Standing
from swarmq.models.branch import BranchRecord, BranchSpec
from swarmq.models.events import EventType
from swarmq.models.plan import Kind, Subtask
from swarmq.models.swarm import MergeReport, SubtaskResult
from swarmq.orchestrator.racing import candidate_results
from swarmq.orchestrator.resolving import MOST_RESOLVERS
from swarmq.orchestrator.results import subtask_result
from swarmq.store.stages import StageRecord

log = structlog.get_logger()


async def finish_stage(runtime: Runtime, swarm_id: str, stage: int) -> None:
    """Do what is due, whichever stage it belongs to, and go on. One process at a time does, for each swarm."""
    state = await runtime.store.stages.load(swarm_id, stage)
    if state is None or not (state.complete or state.eager):
        return  # the common early message of a chord; it costs one round trip
    while True:
        standing = await Standing.load(runtime.store, swarm_id)
        if standing.record.state.final:
            return
        # Looked at again after each time that the job was held: who finds it held by another can leave, as whatever
        # became due before the job was given back is seen by its holder.
        if not standing.due() and not standing.closable():
            break
        async with held_job(runtime, swarm_id, MERGE) as held:
            if not held:
                return
            await _Settling(runtime, await Standing.load(runtime.store, swarm_id)).run()
    reached(CrashPoint.NEXT_SENT)
    await go_on(runtime, standing)


class _Settling:
    """One holder's turn."""

    def __init__(self, runtime: Runtime, standing: Standing) -> None:
        self.runtime, self.store, self.standing = runtime, runtime.store, standing
        self.record, self.id = standing.record, standing.record.spec.id
        self.repository = repository_of(runtime, standing.record)
        self.conflicts: list[tuple[Subtask, BranchRecord, MergeReport, int]] = []
        self.merges = {id_: report for stage in standing.stages for id_, report in stage.merges.items()}

    async def run(self) -> None:
        if self.record.state.final:
            return
        eager = self.record.spec.options.eager
        made: dict[str, SubtaskResult] = {}
        for subtask in self.standing.due():
            result = await self._result(subtask)
            if result is None:
                continue
            made[subtask.id] = result
            if eager:  # what waits for this subtask alone need not wait for the other merges
                await self._keep({subtask.id: result})
                await go_on(self.runtime, await Standing.load(self.store, self.id))
        if not eager:
            await self._keep(made)
        for conflict in self.conflicts:  # last: a resolver sees all that is merged by then
            await self._resolve(*conflict)
        for stage in (await Standing.load(self.store, self.id)).closable():
            await self._close(stage)

    async def _keep(self, results: dict[str, SubtaskResult]) -> None:
        await self.store.swarms.put_results(self.id, results)
        for subtask_id, result in results.items():
            if not result.success:
                continue
            tags = [f"stage:{result.stage}", f"subtask:{result.name}"]
            try:
                await self.store.shared.publish(self.id, subtask_id, result.branch_id or "", result.text, tags)
            except UsageError as error:  # too long, or agents have used up the space: no reason to undo what is merged
                log.warning("result not shared", swarm=self.id, subtask=subtask_id, error=str(error))

    async def _close(self, stage: StageRecord) -> None:
        results = await self.store.swarms.load(self.id)
        ended = [result for result in results.results.values() if result.stage == stage.stage]
        succeeded = sum(result.success for result in ended)
        reached(CrashPoint.STAGE_CLOSED)
        await self.store.stages.close(self.id, stage.stage, succeeded, len(ended) - succeeded)
        if self.record.spec.options.placement == "pod":
            await self.runtime.dispatch.remove_pods(self.id, stage.stage)
        log.info("stage closed", swarm=self.id, stage=stage.stage, succeeded=succeeded, failed=len(ended) - succeeded)

    async def _result(self, subtask: Subtask) -> SubtaskResult | None:
        """The subtask's result; None where a resolver has to work first."""
        standing = self.standing
        branch = standing.promoted(subtask.id)
        if branch is None or branch.outcome is None:
            return None
        if self.record.error is not None:  # maybe for what is done below: the swarm has to end all the same
            return subtask_result(subtask, branch, branch.outcome, self.merges.get(branch.spec.id))
        if branch.spec.candidate and subtask.id not in standing.races and branch.outcome.success:
            race = await self.store.races.decide(self.id, subtask.id, branch.spec.id)
            if race.winner != branch.spec.id:
                return None  # somebody was faster with another word; the next look follows it
        report = await self._merged(subtask, branch)
        resolved_by = unresolved = None
        for resolver in standing.resolvers_of(subtask.id):
            if report is None or report.status != "conflict" or resolver.outcome is None:
                break
            if not resolver.outcome.success:
                unresolved = resolver.outcome.error or resolver.outcome.exit.value
                break
            report = await self._merged(subtask, resolver)
            resolved_by = resolver.spec.id if report is not None and report.status != "conflict" else None
        if report is not None and report.status == "conflict" and unresolved is None:
            tried = standing.resolvers_of(subtask.id)
            if self._may_resolve() and len(tried) < MOST_RESOLVERS:
                self.conflicts.append((subtask, tried[-1] if tried else branch, report, len(tried) + 1))
                return None
        return subtask_result(
            subtask,
            branch,
            branch.outcome,
            report,
            candidates=candidate_results(standing.workers_of(subtask.id), branch.spec.id, final_score),
            resolved_by=resolved_by,
            unresolved=unresolved,
        )

    async def _merged(self, subtask: Subtask, branch: BranchRecord) -> MergeReport | None:
        """A merge that is recorded is not done again; one that was done but not recorded is found by git."""
        report, outcome = self.merges.get(branch.spec.id), branch.outcome
        if report is not None or self.repository is None or outcome is None or outcome.commit is None:
            return report
        return await merge(self.runtime, self.record, self.repository, subtask, branch, outcome)

    def _may_resolve(self) -> bool:
        options = self.record.spec.options
        return options.resolve_conflicts and not self.standing.stops

    async def _resolve(self, subtask: Subtask, branch: BranchRecord, report: MergeReport, number: int) -> None:
        """Open a resolver in the branch's stage: an ordinary branch, so the stage ends once more after it."""
        if self.repository is None or branch.outcome is None:
            return
        stage, branch_id = branch.spec.stage, f"{subtask.id}.r{number}"
        spec = BranchSpec(
            swarm_id=self.id,
            id=branch_id,
            subtask_id=subtask.id,
            stage=stage,
            kind=Kind.EDIT,
            base_commit=await self.repository.integration_commit(),
            celery_task_id=branch_task_id(self.id, branch_id),
            resolves=branch.spec.id,
            theirs=branch.outcome.commit,
            model=branch.spec.model,
        )
        options = self.record.spec.options
        queued = await self.store.stages.open(self.id, stage, [spec], options.max_subagents, eager=options.eager)
        told = {"resolver": branch_id, "files": list(report.conflicts)}
        await self.store.events.emit(self.id, branch_event(branch.spec, EventType.RESOLVING, told))
        reached(CrashPoint.RESOLVER_SENT)
        await self.runtime.dispatch.branches(self.id, queued)
