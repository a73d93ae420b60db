"""The work of who holds a branch that runs in a pod of its own: it starts the pod or adopts it, follows its log, and
ends it. The counterpart of branch_work.py, with the same life: claim, lease, fence, outcome.

========================  =========================================================================
the agent gives a result   its commit is verified and taken over, the pod removed
the pod is lost            another one goes on from the recorded steps, at most max_deliveries times
cancelled, paused          the pod is removed; a paused branch goes on in another one
this worker stops or dies  the pod runs on, and the next holder of the branch adopts it
========================  =========================================================================
"""

from __future__ import annotations

import asyncio
import time

import structlog

from swarmq.agent.adopting import answers_in
from swarmq.agent.assignment import Parked
from swarmq.agent.narration import branch_event
from swarmq.errors import DiskFullError, LeaseLost, StoreError, SwarmqError, WorkspaceError
from swarmq.fleet.beginning import announce, look_back, require_lease
from swarmq.fleet.continuing import Continuation
from swarmq.fleet.journal import StoreJournal
from swarmq.fleet.observing import observer_of
from swarmq.fleet.planning import model_of
from swarmq.fleet.pod_access import BranchPods, FollowedPod, PodPermit
from swarmq.fleet.pod_activity import PodActivity
from swarmq.fleet.pod_commits import with_commit_of_result, with_saved_files
from swarmq.fleet.pod_ends import DISAPPEARED, Replace, gap, judge_end
from swarmq.fleet.pod_following import Follower, Stopped, TornLog
from swarmq.fleet.pod_payload import PodTask, pod_request
from swarmq.fleet.resolving import task_of
from swarmq.fleet.result_cache import EqualWork
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.spending import price_of
from swarmq.fleet.stages import repository_of
from swarmq.models.branch import BranchRecord, Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.models.plan import Subtask
from swarmq.models.pods import PodNews
from swarmq.models.swarm import SwarmRecord
from swarmq.pod.protocol import ResultRecord
from swarmq.store.branches import Claim
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()

REMOVAL_SECONDS = 10.0
"""For ending a pod whose branch is over: where the cluster is away, what is left of it is removed with its stage."""


class PodWork:
    """One holder's work on one branch. ``run`` returns the outcome; failures of agent, pod and cluster are values."""

    def __init__(self, runtime: Runtime, claim: Claim) -> None:
        if claim.record is None:
            raise LookupError("a claim without a record cannot be worked on")
        self.runtime, self.claim = runtime, claim
        self.record: BranchRecord = claim.record
        self.swarm_id, self.branch_id = claim.record.spec.swarm_id, claim.record.spec.id
        self.journal = StoreJournal(runtime.store, claim.record.spec, claim.token)
        self._started = time.monotonic()
        self._repository: SwarmRepository | None = None
        self._checkpoint = claim.record.checkpoint
        self._continuation: Continuation | None = None
        self._continued_from: str | None = None
        self.activity = PodActivity(self.journal)
        self.observer = observer_of(self.activity, runtime.store, claim.record.spec)
        self._permit: PodPermit | None = None
        self.equal: EqualWork | None = None
        self._follower: Follower | None = None

    async def run(self) -> Outcome | None:
        """Work to the end; None where the swarm is paused. LeaseLost, StoreError and DiskFullError pass, as they do
        for a branch in the fleet. Cancelled, it leaves the pod alone."""
        outcome: Outcome | None = None
        try:
            return await self._run()
        except Parked:
            pass
        except (LeaseLost, StoreError, DiskFullError):
            raise
        except SwarmqError as error:
            outcome = self._failed(str(error))
        except Exception as error:  # a bug of ours must end this branch alone, with its reason, and not the stage
            log.exception("internal error")
            outcome = self._failed(f"internal error: {type(error).__name__}: {error}")
        finally:
            await self.observer.aclose()
        await require_lease(self.runtime, self.record.spec, self.claim.token, self.observer.observation())
        await self._remove_pod()
        return outcome

    async def _run(self) -> Outcome:
        swarm = await self.runtime.store.swarms.load(self.swarm_id)
        structlog.contextvars.bind_contextvars(subtask=self.record.spec.subtask_id)
        self._repository = repository = repository_of(self.runtime, swarm)
        subtask = await task_of(self.runtime, swarm, self.record.spec, repository)
        await announce(self.runtime, self.claim, self.record.spec, subtask)
        self.equal = EqualWork(self.runtime, swarm, subtask, self.record.spec, repository)
        hit = await self.equal.find_or_go_on(self.claim.token, self._tell)
        if hit is not None:
            return hit
        self._started = time.monotonic()  # what it waited for others is not its own time
        if repository is not None:
            await repository.take_over(self.branch_id, self.claim.token)
            self.observer.watch(repository, self.record.spec.base_commit or "", None)
        self._continuation = found = await look_back(self.runtime, self.claim, swarm, subtask, repository)
        if found is not None:
            self._checkpoint = found.checkpoint
        outcome = await self._in_pods(swarm, subtask)
        if outcome.success:
            await self.equal.keep(outcome)
        return outcome

    def event(self, type_: EventType, **data: object) -> Event:
        return branch_event(self.record.spec, type_, data)

    async def _in_pods(self, swarm: SwarmRecord, subtask: Subtask) -> Outcome:
        """In one pod, or in one after the other."""
        spec = self.record.spec
        model = spec.model or model_of(self.runtime, swarm)
        self.journal.price = price_of(self.runtime.models, swarm.spec.options, model)
        pods = await self.runtime.pod_access.get()
        budget = self.runtime.settings.pod_budget
        self._permit = await self.runtime.store.pods.acquire(
            self.swarm_id, self.branch_id, self.claim.token, budget, self._on_place
        )
        while True:
            found = await self._in_pod(pods, swarm, subtask, model)
            outcome = await self._count_lost(swarm, found) if isinstance(found, Replace) else found
            if outcome is not None:
                await self._give_back()
                return outcome

    async def _give_back(self) -> None:
        """The place among the fleet's pods. A holder that stops leaves it to the next one, as it does the pod."""
        permit, self._permit = self._permit, None
        if permit is not None:
            await permit.release()

    async def _in_pod(self, pods: BranchPods, swarm: SwarmRecord, subtask: Subtask, model: str) -> Outcome | Replace:
        """Start or adopt one, and follow it to its end."""
        store, spec = self.runtime.store, self.record.spec
        entries = await store.transcripts.load(self.swarm_id, self.branch_id)
        self.journal = StoreJournal(store, spec, self.claim.token, self.journal.price)
        self.journal.resume(entries)
        self.activity.journal, self.activity.seen = self.journal, None
        adopted = self._continuation.entries if self._continuation is not None else ()
        self._continued_from = next((entry.adopted_from for entry in (*entries, *adopted) if entry.adopted_from), None)
        counters = await store.swarms.counters(self.swarm_id)
        task = PodTask(
            swarm, subtask, spec, self.claim.token, model, entries, self._checkpoint, self._continuation, counters
        )
        request = await pod_request(task, self.runtime.settings, self._repository)
        self.activity.waits_for = "waiting for its pod"
        async with await pods.run(request, self._on_notice) as pod:
            if (entries or adopted) and not pod.adopted:
                step, continues = answers_in([*entries, *adopted]) + 1, None if entries else self._continued_from
                event = self.event(EventType.BRANCH_RESUMED, step=step, continues=continues)
                await store.events.emit(self.swarm_id, event)
            follower = self._follower = Follower(
                store, self.claim, self.activity, self.observer, self._repository, self._checkpoint, pod.nonce
            )
            try:
                return await self._follow(pod, follower, subtask)
            except TornLog as error:
                log.warning("the pod's log has a gap, going on in another pod", gap=str(error))
                await require_lease(self.runtime, spec, self.claim.token, self.observer.observation())
                await self._remove(pod)
                return Replace(gap(str(error)))
            finally:
                self._checkpoint, self._follower = follower.checkpoint, None

    async def _on_place(self, place: int) -> None:
        await self._tell(f"waiting for a pod, {place} in the queue")

    async def _on_notice(self, news: PodNews) -> None:
        await self._tell(news.text, self.event(EventType.BRANCH_POD, **news.data()))

    async def _tell(self, doing: str, *events: Event) -> None:
        self.activity.waits_for = doing
        if events:
            await self.runtime.store.events.emit(self.swarm_id, *events)

    async def _follow(self, pod: FollowedPod, follower: Follower, subtask: Subtask) -> Outcome | Replace:
        async for line in pod.lines():
            stopped = await follower.take(line)
            if stopped is not None:
                await self._remove(pod)
                return await self._stopped(stopped, subtask, follower)
            if follower.result is not None:
                outcome = await self._conclude(follower.result)
                await self._remove(pod)
                return outcome
        end = await pod.end()
        judged = judge_end(end, follower.tail, spoke=follower.spoke)
        await self._remove(pod)
        if isinstance(judged, Replace):
            return judged
        outcome = self._with_figures(judged)
        return await self._kept(outcome, subtask, follower) if outcome.success else outcome

    async def _count_lost(self, swarm: SwarmRecord, lost: Replace) -> Outcome | None:
        """None where another pod may go on; lost pods count like lost workers."""
        store, counter = self.runtime.store, f"lost pods of {self.branch_id}"
        await store.swarms.add(self.swarm_id, **{counter: 1})
        count = (await store.swarms.counters(self.swarm_id))[counter]
        log.warning("the branch lost its pod", why=lost.why, lost_pods=count)
        await store.events.emit(self.swarm_id, self.event(EventType.BRANCH_POD, notice=lost.why))
        if count + self.claim.deliveries < swarm.spec.options.max_deliveries:
            return None
        why = lost.why if lost.why.startswith(DISAPPEARED) else f"{DISAPPEARED} (the last time: {lost.why})"
        return self._failed(f"{why}; it was tried {count} times (max_deliveries)")

    async def _conclude(self, result: ResultRecord) -> Outcome:
        """The agent's own outcome, with the commit as git here finds it and the figures that were recorded."""
        store, spec = self.runtime.store, self.record.spec
        if result.events:
            await store.events.emit(self.swarm_id, *result.events)
        outcome = self._with_figures(result.outcome)
        if outcome.retries or result.rate_limit_wait_seconds:
            await store.swarms.add(
                self.swarm_id, retries=outcome.retries, rate_limit_wait_seconds=result.rate_limit_wait_seconds
            )
        try:
            return await with_commit_of_result(outcome, self._repository, spec, self.claim.token, result)
        except DiskFullError:
            raise
        except WorkspaceError as error:
            return self._failed(f"the commit that came from the pod was refused: {error}")

    async def _stopped(self, stopped: Stopped, subtask: Subtask, follower: Follower) -> Outcome:
        if stopped.limit is None:
            return self._ended(Exit.CANCELLED, stopped.reason)
        outcome = self._ended(Exit.BUDGET_EXHAUSTED, stopped.reason).model_copy(update={"limit": stopped.limit})
        return await self._kept(outcome, subtask, follower)

    async def _kept(self, outcome: Outcome, subtask: Subtask, follower: Follower) -> Outcome:
        spec, token = self.record.spec, self.claim.token
        return await with_saved_files(outcome, self._repository, spec, token, subtask, follower.checkpoint)

    def _with_figures(self, outcome: Outcome) -> Outcome:
        """What the pod says of steps, money and commits is not taken on trust."""
        kept = ("text", "error", "fault", "limit", "retries", "model_status", "verify")
        own = self._ended(outcome.exit, outcome.error or "")
        return own.model_copy(update={name: getattr(outcome, name) for name in kept})

    def leave(self) -> bool:
        """No: nothing of the agent runs here, and its pod runs on."""
        return False

    async def checkpoint(self) -> None:
        """Nothing: what the agent saves is in its log."""

    async def cancelled(self, reason: str) -> Outcome:
        """The outcome of a branch that was stopped; ``run`` has been cancelled."""
        await self._remove_pod()
        return self._ended(Exit.CANCELLED, reason)

    async def _remove_pod(self) -> None:
        """Whoever follows it, and whether there is one."""
        await self._remove(None)
        await self._give_back()

    async def _remove(self, pod: FollowedPod | None) -> None:
        """Where that fails, it is removed with what is left of its stage."""
        try:
            async with asyncio.timeout(REMOVAL_SECONDS):
                if pod is not None:
                    await pod.delete()
                else:
                    await (await self.runtime.pod_access.get()).delete_branch(self.swarm_id, self.branch_id)
        except (SwarmqError, TimeoutError) as error:
            log.warning("the pod was not removed", error=str(error))

    def _failed(self, error: str) -> Outcome:
        return self._ended(Exit.FAILED, error).model_copy(update={"fault": "infrastructure"})

    def _ended(self, exit_: Exit, error: str) -> Outcome:
        seconds = time.monotonic() - self._started
        ended = self.journal.ended(exit_, error, duration_seconds=seconds, continued_from=self._continued_from)
        checkpoint = self._follower.checkpoint if self._follower is not None else self._checkpoint
        return ended.model_copy(update={"checkpoint": checkpoint})
