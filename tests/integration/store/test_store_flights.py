"""Of equal work one branch leads and the others wait, whatever order they come in and whatever replies are lost."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from repeating_gate import RepeatingGate
from store_samples import until
from valkey_server import Valkey

from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.cache import CachedResult
from swarmq.store.connection import Gate
from swarmq.store.flights import Joined
from swarmq.store.store import Store

LONG_SECONDS, SHORT_SECONDS = 600.0, 0.001
LEADS = Joined()


def cached(source: str = "s/a") -> CachedResult:
    return CachedResult(text="done", source=source)


async def test_of_any_number_that_ask_at_once_one_leads(store: Store) -> None:
    names = [f"s/{n}" for n in range(20)]
    joined = await asyncio.gather(*(store.flights.join("k", who, LONG_SECONDS) for who in names))
    leaders = [who for who, one in zip(names, joined, strict=True) if one == LEADS]
    assert len(leaders) == 1
    assert {one.leader for one in joined if one != LEADS} == set(leaders)
    stats = await store.cache.stats()
    assert (stats["hits"], stats["misses"], stats["waits"]) == (0, 1, 19)


async def test_who_waited_finds_the_result_and_is_counted_as_a_hit(store: Store) -> None:
    await store.flights.join("k", "s/a", LONG_SECONDS)
    assert (await store.flights.join("k", "s/b", LONG_SECONDS)).leader == "s/a"
    assert (await store.flights.join("k", "s/b", LONG_SECONDS, waited=True)).leader == "s/a"
    await store.cache.put("k", cached())
    assert (await store.flights.join("k", "s/b", LONG_SECONDS, waited=True)).result == cached()
    stats = await store.cache.stats()
    assert (stats["hits"], stats["misses"], stats["waits"]) == (1, 1, 1)


async def test_a_leader_that_leaves_is_followed_by_one(store: Store) -> None:
    await store.flights.join("k", "s/a", LONG_SECONDS)
    await store.flights.leave("k", "s/b")  # not the leader: nothing happens
    assert (await store.flights.join("k", "s/b", LONG_SECONDS)).leader == "s/a"
    await store.flights.leave("k", "s/a")
    assert await store.flights.join("k", "s/b", LONG_SECONDS, waited=True) == LEADS
    assert (await store.flights.join("k", "s/c", LONG_SECONDS)).leader == "s/b"
    assert not await store.flights.lead("k", "s/a", LONG_SECONDS), "who was late must not push out the new leader"
    assert await store.flights.lead("k", "s/b", LONG_SECONDS)


async def test_a_leader_that_dies_is_followed_when_its_lease_is_over(store: Store) -> None:
    await store.flights.join("k", "s/a", SHORT_SECONDS)

    async def leads() -> bool:
        return await store.flights.join("k", "s/b", LONG_SECONDS) == LEADS

    await until(leads)
    assert await store.gate.call("PTTL", keys.FLIGHT("k")) > 0, "no flight stays for good"


async def test_leaving_rings_those_that_wait(store: Store) -> None:
    await store.flights.join("k", "s/a", LONG_SECONDS)
    async with store.flights.listen("k") as bell, asyncio.timeout(20):
        await bell.wait()  # the subscription stands
        bell.clear()
        await store.flights.leave("k", "s/a")
        await bell.wait()


async def test_other_work_is_not_waited_for(store: Store) -> None:
    await store.flights.join("k", "s/a", LONG_SECONDS)
    assert await store.flights.join("l", "s/b", LONG_SECONDS) == LEADS


_numbers = itertools.count()


@dataclass
class Model:
    leader: str | None = None
    result: CachedResult | None = None
    asked: dict[str, int] = field(default_factory=lambda: {"hits": 0, "misses": 0, "waits": 0})


class FlightMachine(RuleBasedStateMachine):
    """Any order of joining, renewing, leaving, dying and finishing, against a model; every command is repeated."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model, self.key = Model(), f"key{next(_numbers)}"
        gate: Gate = RepeatingGate(parse_address(self.url), retry_seconds=5, max_connections=4)
        self.store = Store(gate)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.gate.aclose())
        self.loop.close()

    @initialize()
    def count_from_here(self) -> None:
        self.before = self.loop.run_until_complete(self.store.cache.stats())

    @rule(who=st.sampled_from(["s/a", "s/b", "t/a"]), waited=st.booleans())
    def join(self, who: str, waited: bool) -> None:
        found = self.loop.run_until_complete(self.store.flights.join(self.key, who, LONG_SECONDS, waited=waited))
        model = self.model
        if model.result is not None:
            assert found == Joined(result=model.result)
            model.asked["hits"] += 1
        elif model.leader in (None, who):
            assert found == LEADS
            model.asked["misses"] += model.leader is None
            model.leader = who
        else:
            assert found == Joined(leader=model.leader)
            model.asked["waits"] += not waited

    @rule(who=st.sampled_from(["s/a", "s/b", "t/a"]))
    def renew(self, who: str) -> None:
        leads = self.loop.run_until_complete(self.store.flights.lead(self.key, who, LONG_SECONDS))
        assert leads == (self.model.leader in (None, who))
        self.model.leader = self.model.leader or who

    @rule(who=st.sampled_from(["s/a", "s/b", "t/a"]))
    def leave(self, who: str) -> None:
        self.loop.run_until_complete(self.store.flights.leave(self.key, who))
        if self.model.leader == who:
            self.model.leader = None

    @rule()
    def die(self) -> None:
        """The lease runs out: as if its time were over."""
        self.loop.run_until_complete(self.store.gate.call("DEL", keys.FLIGHT(self.key)))
        self.model.leader = None

    @rule(who=st.sampled_from(["s/a", "s/b"]))
    def finish(self, who: str) -> None:
        self.model.result = cached(who)
        self.loop.run_until_complete(self.store.cache.put(self.key, self.model.result))

    @invariant()
    def counted_once(self) -> None:
        stats = self.loop.run_until_complete(self.store.cache.stats())
        assert {name: stats[name] - self.before[name] for name in self.model.asked} == self.model.asked


def test_flights_in_any_order(valkey: Valkey) -> None:
    machine = type("Machine", (FlightMachine,), {"url": valkey.url})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))
