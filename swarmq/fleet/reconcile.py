"""``swarmq.reconcile``: finds what stands still and sends its message again. Any number of copies may run at once.

Recovery has one path: the ordinary message, through the ordinary claim. Nothing is worked on here. What stands still is
sent again at doubling intervals, agreed upon in the records: an hour without workers leaves a dozen messages, and ten
copies of this task send no more than one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from swarmq.errors import StoreError
from swarmq.fleet.claims import failures_of
from swarmq.fleet.dispatch import branch_task_id
from swarmq.fleet.ending import cancel_branch
from swarmq.fleet.merging import MERGE
from swarmq.fleet.own_pods import show_busy, take_from_dead
from swarmq.fleet.racing import losers, stop_losers
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.stages import finish
from swarmq.fleet.standing import Standing
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.swarm import SwarmRecord, SwarmState
from swarmq.orchestrator.scheduling import Move

log = structlog.get_logger()

LONGEST_INTERVAL = 32
"""Between two messages for the same thing, in multiples of ``queue_patience_seconds``."""


@dataclass(frozen=True)
class Stuck:
    """What one look found. ``send`` are branches whose message is missing, ``stop`` those to be stopped.

    ``end`` are marked ones that nobody holds: their holders are lost, or gave them back when they were marked. A
    message would not do: each worker that heard the revoke of a task drops it whenever it comes again.
    """

    send: tuple[BranchRecord, ...] = ()
    stop: tuple[BranchRecord, ...] = ()
    end: tuple[BranchRecord, ...] = ()


def find_stuck(branches: Iterable[BranchRecord], now: float, patience_seconds: float) -> Stuck:
    """Expired leases, messages that nobody claimed, marks that nobody saw. Pure."""
    send, stop, end = [], [], []
    for branch in branches:
        running, queued = branch.state is BranchState.RUNNING, branch.state is BranchState.QUEUED
        lost, marked = running and branch.lease_until < now, branch.cancel_reason is not None
        if marked and (lost or queued):
            end.append(branch)
        elif lost or (queued and branch.queued_at + patience_seconds < now):
            send.append(branch)
        elif running and marked:
            stop.append(branch)
    return Stuck(tuple(send), tuple(stop), tuple(end))


def standstill(branch: BranchRecord) -> str:
    """Names this standstill of a branch: another name as soon as somebody has claimed it or given it back. Pure."""
    since = branch.lease_until if branch.state is BranchState.RUNNING else branch.queued_at
    return f"branch:{branch.spec.id}:{branch.token}:{since:.6f}"


async def reconcile(runtime: Runtime) -> int:
    """Look at every unfinished swarm; returns how many messages were sent again."""
    sent = 0
    for swarm_id in await runtime.store.swarms.active():
        try:
            record = await runtime.store.swarms.load(swarm_id)
            sent += await _Swarm(runtime, record, await runtime.store.now()).look()
        except StoreError:
            raise
        except Exception:  # one unreadable or deleted swarm must not keep the others from their recovery
            log.exception("swarm not looked at", swarm=swarm_id)
    await runtime.store.scaling.refresh()
    await show_busy(runtime)
    await runtime.store.health.ticked(runtime.settings.reconcile_seconds)
    return sent


class _Swarm:
    """One look at one swarm. ``now`` is Unix seconds by the clock of Redis."""

    def __init__(self, runtime: Runtime, record: SwarmRecord, now: float) -> None:
        self.runtime, self.record, self.now = runtime, record, now
        self.store, self.dispatch = runtime.store, runtime.dispatch
        self.id, self.patience_seconds = record.spec.id, runtime.settings.queue_patience_seconds

    async def look(self) -> int:
        record, dispatch = self.record, self.dispatch
        match record.state:
            case SwarmState.SUBMITTED | SwarmState.PLANNING:
                if self._paused or record.recorded_at + self.patience_seconds > self.now:
                    return 0
                return await self._job("plan", lambda: dispatch.plan(self.id))
            case SwarmState.RUNNING:
                return 0 if self._paused else await self._look_at_stages()
        # Finishing, or ended with producers that are still to be told.
        if record.state.final and record.finished_at + self.patience_seconds > self.now:
            return 0
        calls_model = record.spec.options.synthesize and not record.state.final and record.cancel_reason is None
        if calls_model and self._paused:
            return 0
        return await self._job("finish_swarm", lambda: dispatch.finish_swarm(self.id, calls_model=calls_model))

    @property
    def _paused(self) -> bool:
        return self.record.paused_at > 0 and self.record.cancel_reason is None

    async def _due(self, names: list[str]) -> set[str]:
        longest_seconds = self.patience_seconds * LONGEST_INTERVAL
        return set(await self.store.control.nudge(self.id, names, self.patience_seconds, longest_seconds))

    async def _send(self, name: str, send: Callable[[], Awaitable[None]]) -> int:
        if not await self._due([name]):
            return 0
        log.warning("standing still, sending its message again", swarm=self.id, what=name)
        await send()
        return 1

    async def _job(self, name: str, send: Callable[[], Awaitable[None]]) -> int:
        job = await self.store.jobs.look(self.id, name)
        if job.held:
            return 0
        # A try that failed is no step on: the next one comes after a longer time.
        return await self._send(f"{name}:{job.token - await failures_of(self.runtime, self.id, name)}", send)

    async def _look_at_stages(self) -> int:
        standing = await Standing.load(self.store, self.id, self.record)
        await self._cancel_rest(standing.branches)
        for subtask_id, race in standing.races.items():
            if losers(standing.workers_of(subtask_id), race.winner):  # who decided it died before they were stopped
                await stop_losers(self.store, self.dispatch, self.id, subtask_id, race.winner, race.by)
        branches = await take_from_dead(self.runtime, standing.branches, self.now)
        sent = await self._move_branches(find_stuck(branches, self.now, self.patience_seconds))
        if standing.due() or standing.closable():
            stage = standing.open_stages[0].stage
            return sent + await self._job(MERGE, lambda: self.dispatch.finish_stage(self.id, stage))
        return sent + await self._next(standing)

    async def _cancel_rest(self, branches: Iterable[BranchRecord]) -> None:
        """The swarm was marked, and whoever marked it died before it had marked every branch."""
        reason = self.record.cancel_reason
        for branch in branches if reason is not None else ():
            if branch.state is not BranchState.DONE and branch.cancel_reason is None:
                await cancel_branch(self.store, self.dispatch, self.id, branch.spec.id, reason or "")

    async def _move_branches(self, stuck: Stuck) -> int:
        for branch in stuck.end:
            await cancel_branch(self.store, self.dispatch, self.id, branch.spec.id, branch.cancel_reason or "")
        # Of their own: a branch that was to be stopped and loses its holder is sent at once.
        stops = {branch.spec.id: f"stop:{standstill(branch)}" for branch in stuck.stop}
        due = await self._due([*map(standstill, stuck.send), *stops.values()])
        send = [branch.spec.id for branch in stuck.send if standstill(branch) in due]
        for branch_id in send:
            log.warning("branch stands still, sending its message again", swarm=self.id, branch=branch_id)
            await self.store.budgets.lapse(self.id, branch_id)
        await self.dispatch.branches(self.id, send)
        stop = [branch_id for branch_id, name in stops.items() if name in due]
        await self.dispatch.terminate([branch_task_id(self.id, branch_id) for branch_id in stop])
        return len(send)

    async def _next(self, standing: Standing) -> int:
        """Something could start, or the swarm end, but the message for it got lost."""
        ends = [*(stage.finished_at for stage in standing.stages), *(one.finished_at for one in standing.branches)]
        if max(ends, default=0.0) + self.patience_seconds > self.now:
            return 0
        match standing.move:
            case Move.OPEN:
                number = standing.opening.stage
                return await self._send(f"start_stage:{number}", lambda: self.dispatch.start_stage(self.id, number))
            case Move.FINISH:
                return await self._send(f"finish:{self.record.stage}", lambda: finish(self.runtime, self.record))
            case Move.WAIT:
                return 0
