"""From a pod's log to the branch's records: each line once, fenced, and only what fits to what is there already."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import structlog

from swarmq.agent.assignment import Parked
from swarmq.collapse.observing import Observer
from swarmq.errors import WorkspaceError
from swarmq.fleet.pod_activity import PodActivity
from swarmq.models.plan import Kind
from swarmq.pod.protocol import CheckpointRecord, Decoder, LogRecord, Pack, ProbeRecord, ResultRecord, StepRecord
from swarmq.store.branches import Claim
from swarmq.store.store import Store
from swarmq.workspace.swarm_repository import SwarmRepository

log = structlog.get_logger()


class TornLog(Exception):
    """Something of the log is missing that what follows builds on: the branch has to go on from what is recorded."""


@dataclass(frozen=True)
class Stopped:
    """The swarm's records say that the agent is to stop: why, and the option whose limit it is, if it is one."""

    reason: str
    limit: str | None = None


class Follower:
    """Takes in the records of one pod. ``checkpoint`` is the newest one that the clone and the record have."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        activity: PodActivity,
        observer: Observer,
        repository: SwarmRepository | None,
        checkpoint: str | None,
        nonce: str,
    ) -> None:
        if claim.record is None:
            raise LookupError("a claim without a record cannot be worked on")
        self._store, self._spec, self._token = store, claim.record.spec, claim.token
        self._activity, self._journal, self._observer = activity, activity.journal, observer
        self._repository, self.checkpoint = repository, checkpoint
        self._decoder = Decoder(nonce)
        self.result: ResultRecord | None = None

    @property
    def tail(self) -> str:
        return self._decoder.tail

    @property
    def spoke(self) -> bool:
        """Whether the branch's agent has been heard: in this log, or by what is recorded of it."""
        return self._decoder.spoke or self._journal.index > 0

    async def take(self, line: str) -> Stopped | None:
        """One line of the log. TornLog; Parked where the swarm is paused; WorkspaceError for commits that are refused;
        LeaseLost, StoreError."""
        record = self._decoder.line(line)
        if record is None:
            return None
        return await self._record(record)

    async def _record(self, record: LogRecord) -> Stopped | None:
        match record:
            case StepRecord():
                return await self._step(record)
            case CheckpointRecord():
                await self._save(record)
            case ProbeRecord():
                self._activity.seen = record.observation
            case ResultRecord():
                self._end(record)
        return None

    async def _step(self, record: StepRecord) -> Stopped | None:
        journal = self._journal
        if record.index + len(record.entries) <= journal.index:
            return None  # an earlier supervisor has recorded it
        if record.index != journal.index or not self._has(record.checkpoint):
            raise TornLog(f"entry {record.index} follows {journal.index}")
        for entry in record.entries:
            journal.verified = entry.verify or journal.verified
        recorded = await journal.record(
            record.entries,
            record.events,
            steps=record.steps,
            tool_calls=record.tool_calls,
            usage=record.usage,
            expected=record.expected,
        )
        if recorded.cancel_reason is not None:
            return Stopped(recorded.cancel_reason)
        if recorded.limit is not None:
            why = f"the swarm's {recorded.limit} leaves no room for another call"
            return Stopped(why, recorded.limit)
        if recorded.hold == "paused":
            raise Parked
        return None  # calls in flight may use up the budget; the agent's own is under way and cannot be held back

    def _has(self, checkpoint: str | None) -> bool:
        return self._spec.kind is not Kind.EDIT or checkpoint == self.checkpoint

    async def _save(self, record: CheckpointRecord) -> None:
        repository, base, pack = self._repository, self._spec.base_commit, record.pack
        if repository is None or base is None or self._spec.kind is not Kind.EDIT:
            return
        if record.previous != self.checkpoint:
            return  # recorded by an earlier supervisor; where it is not, the next step will not fit
        await repository.accept_checkpoint(
            self._spec.id, self._token, unpacked(pack), pack.commit, base, self.checkpoint
        )
        await self._store.transcripts.checkpoint(self._spec.swarm_id, self._spec.id, self._token, pack.commit)
        self.checkpoint = pack.commit
        self._observer.saved(pack.commit)

    def _end(self, record: ResultRecord) -> None:
        if (record.swarm, record.branch) != (self._spec.swarm_id, self._spec.id):
            raise WorkspaceError(f"the pod's result is one of branch {record.branch} of swarm {record.swarm}")
        if record.entries != self._journal.index or not self._has(record.outcome.checkpoint):
            raise TornLog(f"the result follows entry {record.entries}, {self._journal.index} came")
        self.result = record


def unpacked(pack: Pack) -> bytes:
    """The git objects; WorkspaceError for what is no base64."""
    try:
        return base64.b64decode(pack.base64, validate=True)
    except (binascii.Error, ValueError):
        raise WorkspaceError(f"the pack of {pack.commit} is damaged") from None
