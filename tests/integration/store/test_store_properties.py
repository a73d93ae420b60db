"""Branches under every order of claims, expiries, hand-overs, pauses, cancels and ends, against a model of them.

At most one live holder; tokens only grow; a branch ends once; the stage's end is told to the call that completed it,
and to no other; never more than max_subagents branches are queued or running; nothing starts in a pause, and what is
reserved is what holders have reserved. Any reply may be lost and its command
repeated. Time: a lease is either long, or 1 ms and waited for, so that the model knows which leases are alive.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from repeating_gate import RepeatingGate
from store_samples import DONE, branch_spec, swarm_spec, until
from valkey_server import Valkey

from swarmq.errors import LeaseLost
from swarmq.models.branch import BranchState, Exit, Observation
from swarmq.models.events import EventType
from swarmq.models.messages import Usage, user
from swarmq.models.transcript import Entry
from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate, Route
from swarmq.store.store import Store
from swarmq.store.transcripts import Reservation

T = TypeVar("T")

LONG_SECONDS, SHORT_SECONDS = 600.0, 0.001
RESERVED_TOKENS = 5
WAITING, QUEUED, RUNNING, OVER = BranchState.WAITING, BranchState.QUEUED, BranchState.RUNNING, BranchState.DONE
_swarm_ids = (f"m{n:09}" for n in itertools.count())

branches = st.integers(0, 4)
ages = st.sampled_from([0, 0, 0, 1, 2])
"""How many claims ago the caller got its token: 0 is the newest, so mostly the holder."""


class SometimesRepeatingGate(RepeatingGate):
    """Loses the reply of the calls that the test says."""

    lose = False

    async def _insist(self, route: Route, send: Any) -> Any:
        return await (super()._insist(route, send) if self.lose else Gate._insist(self, route, send))


@dataclass
class Model:
    """What a branch must look like."""

    state: BranchState = WAITING
    token: int = 0
    alive: bool = False
    marked: bool = False
    expiries: int = 0
    reserved_tokens: int = 0
    entries: list[str] = field(default_factory=list)


class BranchMachine(RuleBasedStateMachine):
    """One swarm with one stage."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.gate = SometimesRepeatingGate(parse_address(self.url), retry_seconds=5, max_connections=4)
        self.store = Store(self.gate)
        self.swarm = next(_swarm_ids)
        self.model: dict[str, Model] = {}
        self.waiting: list[str] = []
        self.swarm_marked = self.paused = False
        self.advances = 0

    def teardown(self) -> None:
        self.runner.run(self.gate.aclose())
        self.runner.close()

    def run(self, call: Awaitable[T], lose: bool = False) -> T:
        async def go() -> T:
            return await call

        self.gate.lose = lose
        try:
            return self.runner.run(go())
        finally:
            self.gate.lose = False

    @initialize(
        count=st.integers(1, 5),
        most=st.integers(1, 3),
        held=st.integers(1, 3),
        deliveries=st.integers(1, 3),
        lose=st.booleans(),
    )
    def open(self, count: int, most: int, held: int, deliveries: int, lose: bool) -> None:
        self.most, self.max_deliveries = most, deliveries
        ids = [f"b{n}" for n in range(count)]
        self.model = {id_: Model() for id_ in ids}
        self.waiting = list(ids)
        self.specs = [branch_spec(id_, swarm_id=self.swarm) for id_ in ids]
        self.run(self.store.swarms.create(swarm_spec(self.swarm, max_deliveries=deliveries)), lose)
        assert self.run(self.store.stages.open(self.swarm, 0, self.specs, most), lose) == self.fill()
        for number in range(min(count, most, held)):  # in many runs claim is among the rules that are left out
            self.claim(number, short=False, lose=lose)

    def fill(self) -> list[str]:
        """Moves waiting branches to free slots in the model; returns them."""
        active = sum(branch.state in (QUEUED, RUNNING) for branch in self.model.values())
        moved = [] if self.swarm_marked or self.paused else self.waiting[: max(0, self.most - active)]
        self.waiting = self.waiting[len(moved) :]
        for id_ in moved:
            self.model[id_].state = QUEUED
        return moved

    def pick(self, number: int) -> tuple[str, Model]:
        id_ = f"b{number % len(self.model)}"
        return id_, self.model[id_]

    def pick_as(self, number: int, age: int) -> tuple[str, Model]:
        """For a holder one of the branches that are held, where there are any: most writes are to mean something."""
        held = [item for item in self.model.items() if item[1].state is RUNNING]
        return held[number % len(held)] if held and age == 0 else self.pick(number)

    def holds(self, branch: Model, age: int) -> bool:
        return branch.state is RUNNING and age == 0

    def end(self, id_: str, advance: bool, publish: tuple[str, ...]) -> None:
        """The branch has ended: what its end told must be what the model says."""
        branch = self.model[id_]
        branch.state, branch.alive, branch.reserved_tokens = OVER, False, 0
        if id_ in self.waiting:
            self.waiting.remove(id_)
        assert list(publish) == self.fill()
        assert advance is all(other.state is OVER for other in self.model.values())
        self.advances += advance

    def wait_for_expiry(self, id_: str) -> None:
        async def over() -> bool:
            record = await self.store.branches.load(self.swarm, id_)
            return record.lease_until < await self.store.now()

        self.run(until(over))
        self.model[id_].alive = False

    @rule(number=branches, short=st.booleans(), lose=st.booleans())
    def claim(self, number: int, short: bool, lose: bool) -> None:
        id_, branch = self.pick(number)
        lease = SHORT_SECONDS if short else LONG_SECONDS
        claim = self.run(self.store.branches.claim(self.swarm, id_, "worker", lease), lose)
        if branch.state is OVER:
            assert claim.status == "done"
        elif branch.alive:
            assert claim.status == "held"
        elif branch.marked or self.swarm_marked:
            assert claim.status == "cancelled"
            branch.token += 1
            self.end(id_, claim.advance, claim.publish)
        elif branch.state is WAITING or self.paused:
            assert claim.status == "held"
        else:
            taken = branch.state is RUNNING
            branch.expiries += taken
            given_up = taken and branch.expiries >= self.max_deliveries
            assert claim.status == ("exhausted" if given_up else "claimed")
            assert claim.took_over is taken
            branch.token += 1
            branch.state, branch.alive = RUNNING, True
            if short:
                self.wait_for_expiry(id_)
        assert claim.token == branch.token
        assert claim.deliveries == branch.expiries

    @rule(number=branches, age=ages, short=st.booleans(), lose=st.booleans())
    def renew(self, number: int, age: int, short: bool, lose: bool) -> None:
        id_, branch = self.pick_as(number, age)
        lease = SHORT_SECONDS if short else LONG_SECONDS
        call = self.store.branches.renew(self.swarm, id_, branch.token - age, lease, Observation(at=1))
        renewal = self.run(call, lose)
        assert renewal.alive is self.holds(branch, age)
        if renewal.alive:
            assert (renewal.cancel_reason is not None) is (branch.marked or self.swarm_marked)
            assert renewal.paused is self.paused
            branch.alive = True
            if short:
                self.wait_for_expiry(id_)

    @rule(number=branches, age=ages, text=st.text(max_size=5), lose=st.booleans())
    def record(self, number: int, age: int, text: str, lose: bool) -> None:
        id_, branch = self.pick_as(number, age)
        entry = Entry(step=0, at=1, message=user(text)).encode()
        call = self.store.transcripts.record(
            self.swarm, id_, branch.token - age, len(branch.entries), [entry], [],
            steps=1, tool_calls=0, usage=Usage(), reserve=Reservation(RESERVED_TOKENS),
        )  # fmt: skip
        if self.holds(branch, age):
            recorded = self.run(call, lose)
            branch.entries.append(text)
            branch.reserved_tokens = 0 if self.paused else RESERVED_TOKENS
            assert recorded.hold == ("paused" if self.paused else None)
            assert (recorded.cancel_reason is not None) is (branch.marked or self.swarm_marked)
        else:
            self.refused(call, lose)

    def refused(self, call: Awaitable[Any], lose: bool) -> None:
        try:
            self.run(call, lose)
        except LeaseLost:
            return
        raise AssertionError("a write of somebody who is not the holder was accepted")

    @rule(number=branches, age=ages, lose=st.booleans())
    def publish(self, number: int, age: int, lose: bool) -> None:
        id_, branch = self.pick_as(number, age)
        call = self.store.shared.bound(self.swarm, id_, branch.token - age).publish("key", branch.token)
        if self.holds(branch, age):
            self.run(call, lose)
        else:
            self.refused(call, lose)

    @rule(number=branches, age=ages, lose=st.booleans())
    def release(self, number: int, age: int, lose: bool) -> None:
        id_, branch = self.pick_as(number, age)
        wanted = self.run(self.store.branches.release(self.swarm, id_, branch.token - age), lose)
        if self.holds(branch, age):
            branch.state, branch.alive, branch.reserved_tokens = QUEUED, False, 0
            assert wanted is (not self.paused or branch.marked or self.swarm_marked)

    @rule(number=branches, lose=st.booleans())
    def lapse(self, number: int, lose: bool) -> None:
        id_, branch = self.pick(number)
        lost = branch.state is RUNNING and not branch.alive
        assert self.run(self.store.budgets.lapse(self.swarm, id_), lose) is lost
        if lost:
            branch.reserved_tokens = 0

    @rule(lose=st.booleans())
    def pause(self, lose: bool) -> None:
        assert self.run(self.store.control.pause(self.swarm, "why"), lose) is not self.swarm_marked
        self.paused = self.paused or not self.swarm_marked

    @rule(lose=st.booleans())
    def resume(self, lose: bool) -> None:
        resumed = self.run(self.store.control.resume(self.swarm), lose)
        assert resumed.ended is self.swarm_marked
        if self.swarm_marked:  # it is to stop, paused or not
            assert not resumed.publish
            return
        assert resumed.was_paused is self.paused
        self.paused = False
        self.fill()
        assert set(resumed.publish) == {id_ for id_, branch in self.model.items() if branch.state is QUEUED}

    @rule(number=branches, age=ages, lose=st.booleans())
    def finish(self, number: int, age: int, lose: bool) -> None:
        id_, branch = self.pick_as(number, age)
        outcome = DONE.model_copy(update={"text": f"by token {branch.token - age}"})
        call = self.store.branches.finish(self.swarm, id_, branch.token - age, outcome)
        if self.holds(branch, age):
            end = self.run(call, lose)
            self.end(id_, end.advance, end.publish)
        elif branch.state is not OVER:
            self.refused(call, lose)
        else:
            self.try_to_end_again(call, lose)

    def try_to_end_again(self, call: Awaitable[Any], lose: bool) -> None:
        """The one who ended it gets its answer again, others are refused; the invariants see that nothing changes."""
        try:
            self.run(call, lose)
        except LeaseLost:
            return

    @rule(number=branches, chance=st.integers(0, 3), lose=st.booleans())
    def cancel(self, number: int, chance: int, lose: bool) -> None:
        if chance < 3:  # what has ended leaves few interesting things to happen
            return
        id_, branch = self.pick(number)
        cancelled = self.run(self.store.branches.cancel(self.swarm, id_, "why"), lose)
        assert cancelled.was is branch.state
        if branch.state in (WAITING, QUEUED) or (branch.state is RUNNING and not branch.alive):
            branch.token += 1
            self.end(id_, cancelled.advance, cancelled.publish)
        elif branch.state is RUNNING:
            branch.marked = True
            assert not cancelled.advance

    @rule(chance=st.integers(0, 9), lose=st.booleans())
    def cancel_swarm(self, chance: int, lose: bool) -> None:
        if chance == 9:  # for the same reason
            assert self.run(self.store.swarms.request_cancel(self.swarm, "why"), lose)
            self.swarm_marked = True

    @rule(lose=st.booleans())
    def open_again(self, lose: bool) -> None:
        queued = self.run(self.store.stages.open(self.swarm, 0, self.specs, self.most), lose)
        assert list(queued) == [id_ for id_, branch in self.model.items() if branch.state is QUEUED]

    @invariant()
    def records_are_what_the_model_says(self) -> None:
        if not self.model:
            return
        found = {record.spec.id: record for record in self.run(self.store.branches.load_all(self.swarm))}
        for id_, branch in self.model.items():
            record = found[id_]
            assert (record.state, record.token, record.deliveries) == (branch.state, branch.token, branch.expiries)
            assert (record.outcome is not None) is (branch.state is OVER)
            entries = self.run(self.store.transcripts.load(self.swarm, id_))
            assert [entry.message.text for entry in entries] == branch.entries
        active = [id_ for id_, branch in self.model.items() if branch.state in (QUEUED, RUNNING)]
        assert len(active) <= self.most
        stage = self.run(self.store.stages.load(self.swarm, 0))
        assert stage is not None
        over = {id_ for id_, branch in self.model.items() if branch.state is OVER}
        assert stage.done_ids == over
        assert stage.state == ("advancing" if len(over) == len(self.model) else "open")
        assert self.advances == (len(over) == len(self.model))
        counters = self.run(self.store.swarms.counters(self.swarm))
        assert counters.get("steps", 0) == sum(len(branch.entries) for branch in self.model.values())
        assert counters.get("reserved_tokens", 0) == sum(branch.reserved_tokens for branch in self.model.values())
        held = {raw.decode() for raw in self.run(self.gate.call("SMEMBERS", keys.RUNNING(self.swarm)))}
        assert held == {id_ for id_, branch in self.model.items() if branch.state is RUNNING}

    @invariant()
    def each_end_is_told_once(self) -> None:
        if not self.model:
            return
        told = [event for event in self.run(self.store.events.read(self.swarm)) if event.branch is not None]
        ended = [event.branch for event in told if event.type is EventType.BRANCH_FINISHED]
        records = self.run(self.store.branches.load_all(self.swarm))
        by_store = [
            record.spec.id for record in records if record.outcome is not None and record.outcome.exit is Exit.CANCELLED
        ]
        assert sorted(filter(None, ended)) == sorted(by_store)  # the others' ends are told by their holders
        queued = [event.branch for event in told if event.type is EventType.BRANCH_QUEUED]
        assert len(queued) == len(set(queued))


def test_branches_keep_their_promises_in_any_order(valkey: Valkey) -> None:
    BranchMachine.url = valkey.url
    run_state_machine_as_test(
        BranchMachine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None, database=None)
    )
