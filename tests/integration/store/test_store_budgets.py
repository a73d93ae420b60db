"""Budgets: reserved before a call, settled after it, never handed out twice, and never kept by nobody."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import DONE, SWARM, lease_over, opened
from valkey_server import Valkey

from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.store.connection import Gate
from swarmq.store.store import Store
from swarmq.store.transcripts import Recorded, Reservation


async def claimed(store: Store, branch_id: str, lease_seconds: float = 60) -> int:
    return (await store.branches.claim(SWARM, branch_id, "w", lease_seconds)).token


async def write(
    store: Store,
    branch_id: str,
    token: int,
    index: int = 0,
    *,
    used: Usage | None = None,
    nano_usd: int | None = 0,
    reserve: Reservation | None = None,
) -> Recorded:
    return await store.transcripts.record(
        SWARM, branch_id, token, index, [b"{}"] if used else [], [],
        steps=1 if used else 0, tool_calls=0, usage=used or Usage(), nano_usd=nano_usd, reserve=reserve,
    )  # fmt: skip


async def reserved_tokens(store: Store) -> int:
    return int((await store.swarms.counters(SWARM)).get("reserved_tokens", 0))


async def test_a_call_waits_while_others_may_use_up_the_budget_and_ends_when_they_have(store: Store) -> None:
    await opened(store, "a", "b", max_tokens=100)
    a, b = await claimed(store, "a"), await claimed(store, "b")
    assert await write(store, "a", a, reserve=Reservation(60)) == Recorded(None, None, None)
    assert await write(store, "b", b, reserve=Reservation(60)) == Recorded(None, None, "budget")
    await write(store, "a", a, used=Usage(input_tokens=20, output_tokens=10))
    assert await write(store, "b", b, reserve=Reservation(60)) == Recorded(None, None, None)
    await write(store, "b", b, used=Usage(input_tokens=30, output_tokens=20))
    assert await write(store, "a", a, 1, reserve=Reservation(60)) == Recorded("max_tokens", None, None)
    assert await reserved_tokens(store) == 0


async def test_costs_are_limited_like_tokens(store: Store) -> None:
    await opened(store, "a", max_cost_usd=0.5)
    token = await claimed(store, "a")
    dear = Reservation(10, round(0.4 * NANO_PER_USD))
    assert (await write(store, "a", token, reserve=dear)).limit is None
    await write(store, "a", token, used=Usage(input_tokens=10), nano_usd=round(0.2 * NANO_PER_USD))
    assert (await write(store, "a", token, 1, reserve=dear)).limit == "max_cost_usd"
    assert (await store.swarms.counters(SWARM))["cost_nano_usd"] == 0.2 * NANO_PER_USD
    assert (await store.swarms.status(SWARM)).cost_usd == 0.2


async def test_a_cost_nobody_knows_is_not_reported_as_none(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store, "a")
    assert (await store.swarms.status(SWARM)).cost_usd == 0
    await write(store, "a", token, used=Usage(input_tokens=10), nano_usd=None)
    assert (await store.swarms.status(SWARM)).cost_usd is None


async def test_a_branch_that_was_cancelled_between_two_holders_tells_what_it_cost(store: Store) -> None:
    await opened(store, "a", "b")
    a, b = await claimed(store, "a"), await claimed(store, "b")
    await write(store, "a", a, used=Usage(input_tokens=10), nano_usd=NANO_PER_USD // 4)
    await write(store, "b", b, used=Usage(input_tokens=10), nano_usd=None)
    for branch_id, token, cost_usd in (("a", a, 0.25), ("b", b, None)):
        await store.branches.release(SWARM, branch_id, token)
        await store.branches.cancel(SWARM, branch_id, "enough")
        outcome = (await store.branches.load(SWARM, branch_id)).outcome
        assert outcome is not None
        assert outcome.cost_usd == cost_usd


async def test_what_a_lost_holder_reserved_is_not_reserved_twice(store: Store) -> None:
    await opened(store, "a", "b", max_tokens=100)
    lost = await claimed(store, "a", lease_seconds=0.001)
    await write(store, "a", lost, reserve=Reservation(60))
    await lease_over(store, "a")
    token, other = await claimed(store, "a"), await claimed(store, "b")
    assert (await write(store, "b", other, reserve=Reservation(60))).hold == "budget"
    assert (await write(store, "a", token, reserve=Reservation(70))).hold is None
    assert await reserved_tokens(store) == 70
    await store.branches.finish(SWARM, "a", token, DONE)
    assert await reserved_tokens(store) == 0
    assert (await write(store, "b", other, reserve=Reservation(60))).hold is None


async def test_what_a_lost_holder_reserved_keeps_nobody_waiting_who_has_its_place_at_the_worker(store: Store) -> None:
    await opened(store, "a", "b", max_tokens=100, max_total_steps=1)
    lost, other = await claimed(store, "a", lease_seconds=0.001), await claimed(store, "b")
    await write(store, "a", lost, reserve=Reservation(60))
    await lease_over(store, "a")
    assert not await store.budgets.lapse(SWARM, "b")
    assert await store.budgets.lapse(SWARM, "a")
    assert (await write(store, "b", other, reserve=Reservation(60))) == Recorded(None, None, None)
    assert not await store.budgets.lapse(SWARM, "b")
    await write(store, "a", lost, used=Usage(input_tokens=60))  # it was only paused: what it used counts
    counters = await store.swarms.counters(SWARM)
    assert (counters["reserved_tokens"], counters["reserved_steps"], counters["steps"]) == (60, 2, 1)


async def test_a_branch_that_is_handed_over_reserves_nothing_meanwhile(store: Store) -> None:
    await opened(store, "a", max_tokens=100)
    token = await claimed(store, "a")
    await write(store, "a", token, reserve=Reservation(60))
    assert await store.branches.release(SWARM, "a", token)
    counters = await store.swarms.counters(SWARM)
    assert (counters["reserved_tokens"], counters["reserved_steps"]) == (0, 0)


async def test_a_plan_draws_on_the_same_budget(store: Store) -> None:
    await opened(store, "a", max_tokens=100)
    token = await claimed(store, "a")
    assert (await store.budgets.reserve(SWARM, "plan", Reservation(80))).limit is None
    assert (await store.budgets.reserve(SWARM, "plan", Reservation(70))).limit is None  # another holder of the job
    assert await reserved_tokens(store) == 70
    assert (await write(store, "a", token, reserve=Reservation(60))).hold == "budget"
    await store.budgets.settle(SWARM, "plan", Usage(input_tokens=30, output_tokens=20), 7)
    counters = await store.swarms.counters(SWARM)
    assert (counters["reserved_tokens"], counters["input_tokens"], counters["cost_nano_usd"]) == (0, 30, 7)
    assert (await write(store, "a", token, reserve=Reservation(60))).limit == "max_tokens"
    assert (await store.budgets.reserve(SWARM, "finish_swarm", Reservation(60))).limit == "max_tokens"
    assert await reserved_tokens(store) == 0


BRANCHES = ("a", "b", "c")
ACTIONS = st.lists(
    st.tuples(st.sampled_from(BRANCHES), st.integers(1, 60), st.integers(0, 80), st.booleans()), max_size=25
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
async def test_reservations_add_up_and_no_call_starts_that_could_break_the_budget(
    valkey: Valkey, actions: list[tuple[str, int, int, bool]]
) -> None:
    gate = Gate.open(valkey.url)
    await gate.call("FLUSHDB")
    store = Store(gate)
    limit = 150
    await opened(store, *BRANCHES, max_tokens=limit)
    tokens = {id_: await claimed(store, id_) for id_ in BRANCHES}
    own, index, used = dict.fromkeys(BRANCHES, 0), dict.fromkeys(BRANCHES, 0), 0
    for branch_id, wanted, spent, hands_over in actions:
        if own[branch_id]:  # its call is in flight: it answers, or its holder stops
            if hands_over:
                await store.branches.release(SWARM, branch_id, tokens[branch_id])
                tokens[branch_id] = await claimed(store, branch_id)
            else:
                await write(store, branch_id, tokens[branch_id], index[branch_id], used=Usage(input_tokens=spent))
                index[branch_id] += 1
                used += spent
            own[branch_id] = 0
        else:
            answer = await write(store, branch_id, tokens[branch_id], index[branch_id], reserve=Reservation(wanted))
            others = sum(own.values())
            assert (answer.limit is not None) == (used + wanted > limit)
            assert (answer.hold is not None) == (answer.limit is None and used + others + wanted > limit)
            own[branch_id] = 0 if answer.limit or answer.hold else wanted
        assert await reserved_tokens(store) == sum(own.values())
    await gate.aclose()
