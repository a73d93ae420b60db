"""Branches: who owns one, and how it ends.

A claim makes the branch's fencing token grow and starts a lease by the clock of Redis. Every write of a holder carries
its token and is refused when it is not the newest, or when the branch is not running any more: a worker that was
paused and wakes up later can do no harm. Ending a branch is one script: fence, outcome, done set, free slot, mark of
the stage. Whoever is told ``advance`` has the stage finished; who is told ``publish`` sends those branches' messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmq.errors import NotFoundError
from swarmq.models.branch import BranchRecord, BranchSpec, BranchState, Observation, Outcome
from swarmq.models.events import Event
from swarmq.store import keys
from swarmq.store.call_id import new_call_id
from swarmq.store.codec import check_version, dump, load, pairs, reading
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.line import Word

_FIELDS = (
    *("v", "spec", "state", "token", "deliveries", "lease_until", "queued_at", "started_at", "finished_at"),
    *("worker", "cancel_reason", "checkpoint", "observation", "outcome"),
)
_PAGE = 50
"""Branches that are fetched and parsed in one go: a thousand of them must not hold up the other agents of the loop."""

ClaimStatus = Literal["claimed", "held", "yielded", "done", "cancelled", "exhausted", "missing"]


@dataclass(frozen=True)
class Claim:
    """What a claim was answered (scripts/branch_claim.lua tells each status).

    ``record`` is the branch as the claim left it; its ``deliveries`` count the leases that ran out. ``lost_worker`` is
    whose lease this claim took over. ``advance`` and ``publish`` are set where the claim ended the branch.
    """

    status: ClaimStatus
    record: BranchRecord | None = None
    lost_worker: str | None = None
    advance: bool = False
    publish: tuple[str, ...] = ()

    @property
    def token(self) -> int:
        return 0 if self.record is None else self.record.token

    @property
    def deliveries(self) -> int:
        return 0 if self.record is None else self.record.deliveries

    @property
    def took_over(self) -> bool:
        return self.lost_worker is not None


@dataclass(frozen=True)
class Renewal:
    """``alive``: the caller is still the holder. ``cancel_reason``: it is to stop and end the branch as cancelled.

    ``paused``: the swarm is, so that the branch should start nothing.
    """

    alive: bool
    cancel_reason: str | None
    paused: bool = False


@dataclass(frozen=True)
class Finished:
    """What follows from an end: ``advance``: finish the stage; ``publish``: branches that may start now.

    ``won``: it has won the race for its subtask, and the other candidates are to be stopped.
    """

    advance: bool
    publish: tuple[str, ...]
    won: bool = False


@dataclass(frozen=True)
class Cancelled:
    """``was`` is the state before: a running branch was only marked, but for one whose holder's lease was over."""

    was: BranchState
    advance: bool
    publish: tuple[str, ...]


class Branches:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def claim(self, swarm_id: str, branch_id: str, worker: str, lease_seconds: float) -> Claim:
        """Become the holder, or learn why not. SchemaError for a record that this version does not know."""
        arguments = (branch_id, new_call_id(), worker, lease_seconds)
        reply = await self._gate.script("branch_claim", (keys.SWARM(swarm_id),), arguments)
        status, advance, publish, lost_worker, flat = reply
        record = _record(swarm_id, branch_id, pairs(flat)) if flat else None
        end = _finished(advance, publish)
        return Claim(status.decode(), record, lost_worker.decode() or None, end.advance, end.publish)

    async def renew(
        self, swarm_id: str, branch_id: str, token: int, lease_seconds: float, observation: Observation
    ) -> Renewal:
        """Prolong the lease and report. Not alive: stop at once, and write nothing more."""
        arguments = (branch_id, token, lease_seconds, dump(observation))
        alive, reason, paused = await self._gate.script("branch_renew", (keys.SWARM(swarm_id),), arguments)
        return Renewal(bool(alive), reason.decode() or None, bool(paused))

    async def release(self, swarm_id: str, branch_id: str, token: int) -> bool:
        """Hand over: back to queued, no delivery counted. Afterwards the caller is not the holder, whatever it was.

        True where its message is to be published (or given back): not in a paused swarm.
        """
        return bool(await self._gate.script("branch_release", (keys.SWARM(swarm_id),), (branch_id, token)))

    async def lapse(self, swarm_id: str, branch_id: str, token: int) -> float | None:
        """End the lease of a holder that is known to be dead, instead of waiting for it.

        Returns when it ended (Unix seconds); None where the branch has another holder, or none.
        """
        ended: bytes = await self._gate.script("branch_lapse", (keys.SWARM(swarm_id),), (branch_id, token))
        return float(ended) if ended else None

    async def finish(
        self,
        swarm_id: str,
        branch_id: str,
        token: int,
        outcome: Outcome,
        events: Sequence[Event] = (),
        *,
        wins: bool = False,
    ) -> Finished:
        """End the branch and tell the events. LeaseLost where the caller is not the holder any more.

        ``wins``: it is a candidate whose work has passed verify; the first of them wins the race.
        """
        arguments: list[Word] = [branch_id, token, outcome.exit, dump(outcome), int(wins), *map(encode, events)]
        advance, publish, won = await self._gate.script("branch_finish", (keys.SWARM(swarm_id),), arguments)
        return Finished(advance == b"1", tuple(publish.decode().split()), won == b"1")

    async def cancel(self, swarm_id: str, branch_id: str, reason: str) -> Cancelled:
        """End a branch that nobody holds by a live lease; mark any other. The first reason stays. NotFoundError."""
        arguments = (branch_id, new_call_id(), reason)
        was, advance, publish = await self._gate.script("branch_cancel", (keys.SWARM(swarm_id),), arguments)
        end = _finished(advance, publish)
        return Cancelled(BranchState(was.decode()), end.advance, end.publish)

    async def exists(self, swarm_id: str, branch_id: str) -> bool:
        return bool(await self._gate.call("EXISTS", keys.BRANCH(swarm_id, branch_id)))

    async def load(self, swarm_id: str, branch_id: str) -> BranchRecord:
        """NotFoundError, SchemaError."""
        found = await self._load(swarm_id, [branch_id])
        if not found:
            raise NotFoundError(f"swarm {swarm_id} has no branch {branch_id}")
        return found[0]

    async def load_all(self, swarm_id: str) -> list[BranchRecord]:
        """All branches of the swarm, oldest first; none for a swarm that has none, or is gone."""
        ids = [raw.decode() for raw in await self._gate.call("LRANGE", keys.BRANCHES(swarm_id), 0, -1)]
        return [
            branch
            for start in range(0, len(ids), _PAGE)
            for branch in await self._load(swarm_id, ids[start : start + _PAGE])
        ]

    async def load_running(self, swarm_id: str) -> list[BranchRecord]:
        """The branches that somebody holds, by id."""
        ids = sorted(raw.decode() for raw in await self._gate.call("SMEMBERS", keys.RUNNING(swarm_id)))
        return await self._load(swarm_id, ids)

    async def load_of(self, swarm_id: str, subtask_id: str) -> list[BranchRecord]:
        """The branches of one subtask, oldest first; none where it never ran."""
        ids = [raw.decode() for raw in await self._gate.call("LRANGE", keys.BRANCHES(swarm_id), 0, -1)]
        return await self._load(swarm_id, [id_ for id_ in ids if id_.partition(".")[0] == subtask_id])

    async def _load(self, swarm_id: str, ids: Sequence[str]) -> list[BranchRecord]:
        """Those of the branches that there are."""
        replies = await self._gate.batch([("HMGET", keys.BRANCH(swarm_id, id_), *_FIELDS) for id_ in ids])
        found = []
        for id_, values in zip(ids, replies, strict=True):
            fields = {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None}
            if fields:
                found.append(_record(swarm_id, id_, fields))
        return found


def _finished(advance: bytes, publish: bytes) -> Finished:
    return Finished(advance == b"1", tuple(publish.decode().split()))


def _record(swarm_id: str, branch_id: str, fields: Mapping[str, bytes]) -> BranchRecord:
    what = f"branch {branch_id} of swarm {swarm_id}"
    with reading(what):
        check_version(fields.get("v"), what)
        return _parsed(what, fields)


def _parsed(what: str, fields: Mapping[str, bytes]) -> BranchRecord:
    observation, outcome = fields.get("observation"), fields.get("outcome")
    cancel_reason, checkpoint = fields.get("cancel_reason"), fields.get("checkpoint")
    return BranchRecord(
        spec=load(BranchSpec, fields["spec"], what),
        state=BranchState(fields["state"].decode()),
        token=int(fields["token"]),
        deliveries=int(fields["deliveries"]),
        lease_until=float(fields["lease_until"]),
        queued_at=float(fields.get("queued_at", 0)),
        started_at=float(fields["started_at"]),
        finished_at=float(fields.get("finished_at", 0)),
        worker=fields.get("worker", b"").decode(),
        cancel_reason=None if cancel_reason is None else cancel_reason.decode(),
        checkpoint=None if checkpoint is None else checkpoint.decode(),
        observation=None if observation is None else load(Observation, observation, f"{what}, observation"),
        outcome=None if outcome is None else load(Outcome, outcome, f"{what}, outcome"),
    )
