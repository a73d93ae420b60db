"""The fleet's rate limiter: places, fairness, what is learned, and who dies in between."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import until
from valkey_server import Valkey

from swarmq.models.limits import Bucket, Rates, RateSigns, Report, Verdict, Wish
from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.limiter import FleetLimiter, FleetPermit
from swarmq.store.store import Store

ENDPOINT = "mine"
OK = Report(Verdict.ANSWERED)
PATIENCE_SECONDS = 20
_endpoints = (f"e{n}" for n in itertools.count())
amounts = st.sampled_from([0.0, 1e-9, 0.5, 1.0, 60.0, 1e9, 1e300])
buckets = st.none() | st.builds(Bucket, amounts, amounts, amounts)
reports = st.builds(
    Report, st.sampled_from(Verdict), amounts, st.builds(RateSigns, buckets, buckets), st.sampled_from([0, 1, 10**12])
)


def wish(swarm: str = "s", tokens: int = 0, **rates: float) -> Wish:
    return Wish(ENDPOINT, Rates(**rates), swarm, tokens)  # type: ignore[arg-type]


async def quiet(reason: str) -> None:
    return


async def state(store: Store) -> dict[str, float | str]:
    known: dict[str, float | str] = orjson.loads(await store.gate.call("GET", keys.LIMITER[0](ENDPOINT)))
    return known


async def count(store: Store, index: int) -> int:
    return int(await store.gate.call("ZCARD", keys.LIMITER[index](ENDPOINT)))


async def in_flight(store: Store) -> int:
    return await count(store, 1)


async def queued(store: Store) -> int:
    return await count(store, 2)


async def eventually(store: Store, *, flying: int, waiting: int) -> None:
    async def so() -> bool:
        return (await in_flight(store), await queued(store)) == (flying, waiting)

    await until(so)


async def taken(limiter: FleetLimiter, many: int, **options: float) -> Sequence[FleetPermit]:
    return [await limiter.acquire(wish(**options), quiet) for _ in range(many)]  # type: ignore[arg-type]


async def reported(store: Store, permit: FleetPermit, report: Report) -> None:
    permit.release(report)
    await store.limiter.aclose()


@asynccontextmanager
async def other_process(valkey: Valkey) -> AsyncIterator[FleetLimiter]:
    gate = Gate(parse_address(valkey.url), retry_seconds=5, max_connections=4)
    yield FleetLimiter(gate)
    await gate.aclose()


async def test_calls_in_flight_are_bounded_for_all_processes(store: Store, valkey: Valkey) -> None:
    async with other_process(valkey) as other:
        flying, peak, done = 0, 0, 0

        async def call(limiter: FleetLimiter) -> None:
            nonlocal flying, peak, done
            permit = await limiter.acquire(wish(max_concurrency=4), quiet)
            flying += 1
            peak = max(peak, flying)
            await asyncio.sleep(0.002)
            flying -= 1
            done += 1
            permit.release(OK)

        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(call(limiter) for limiter in (store.limiter, other) for _ in range(40)))
        assert (peak, done) == (4, 80)
        await eventually(store, flying=0, waiting=0)
        await other.aclose()


async def test_a_fail_over_to_a_clock_that_is_behind_holds_up_nobody(store: Store) -> None:
    for permit in await taken(store.limiter, 3, min_spacing_ms=0.001):
        await reported(store, permit, OK)
    key = keys.LIMITER[0](ENDPOINT)
    known = orjson.loads(await store.gate.call("GET", key))
    times = ("last_start", "slot", "ran_at", "window_at", "kept_at")
    await store.gate.call("SET", key, orjson.dumps(known | {name: known[name] + 3600 for name in times}))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await taken(store.limiter, 1, min_spacing_ms=0.001)


async def test_the_limit_grows_with_success_and_is_cut_once_for_all_in_flight(store: Store) -> None:
    permits = await taken(store.limiter, 20)
    for permit in permits[:5]:
        await reported(store, permit, OK)
    assert (await state(store))["limit"] == 25
    permits = [*permits[5:], *await taken(store.limiter, 10)]
    for permit in permits[:5]:
        await reported(store, permit, Report(Verdict.OVERLOADED))
    learned = await state(store)
    assert learned["limit"] == 20
    assert learned["floor"] == 0, "an overload says nothing of a rate"
    for permit in permits[5:]:
        await reported(store, permit, OK)
    assert 20 < float((await state(store))["limit"]) < 21, "slow start is over"


async def test_a_429_sets_the_rate_below_what_was_taken(store: Store) -> None:
    permits = await taken(store.limiter, 20)
    for permit in permits[:5]:
        await reported(store, permit, OK)
    for permit in permits[5:]:
        await reported(store, permit, Report(Verdict.LIMITED))
    learned = await state(store)
    assert 0 < float(learned["floor"]) < float(learned["ceiling"])
    assert learned["limit"] == 20, "one cut for all refusals"
    assert learned["misses"] == 1


@pytest.mark.parametrize(("taken_since", "least", "most"), [(1, 0.45, 0.55), (300, 0.85, 0.95)])
async def test_a_rate_far_above_what_was_taken_since_the_last_refusal_is_halved(
    store: Store, taken_since: int, least: float, most: float
) -> None:
    """At an endpoint that takes a few calls a minute those in flight bound the starts: a tenth less changes nothing."""
    permits = await taken(store.limiter, 20)
    for permit in permits[:10]:
        await reported(store, permit, OK)
    for permit in permits[10:]:
        await reported(store, permit, Report(Verdict.LIMITED))
    learned = await state(store)
    before, ago = float(learned["floor"]), await store.now() - 10
    then = {"series_at": ago, "cut_at": ago, "taken": taken_since, "misses": 0, "hold_until": 0, "current": 0}
    await store.gate.call("SET", keys.LIMITER[0](ENDPOINT), orjson.dumps(learned | then))
    [permit] = await taken(store.limiter, 1)
    await reported(store, permit, Report(Verdict.LIMITED))
    assert least < float((await state(store))["floor"]) / before < most


async def test_retry_after_holds_the_endpoint(store: Store, valkey: Valkey) -> None:
    async with other_process(valkey) as other:
        [permit] = await taken(store.limiter, 1)
        before = await store.now()
        await reported(store, permit, Report(Verdict.LIMITED, retry_after_seconds=0.4))
        await other.acquire(wish(), quiet)
        assert await store.now() - before >= 0.4
        await other.aclose()


@pytest.mark.parametrize("kind", ["requests", "tokens"])
async def test_an_empty_bucket_holds_until_its_reset(store: Store, kind: str) -> None:
    [permit] = await taken(store.limiter, 1)
    before = await store.now()
    await reported(store, permit, Report(Verdict.ANSWERED, signs=RateSigns(**{kind: Bucket(10, 0, 0.3)})))
    again = await store.limiter.acquire(wish(), quiet)
    assert await store.now() - before >= 0.3
    assert again.waited_seconds > 0.2


async def test_a_bucket_below_half_paces_starts_as_fast_as_it_fills(store: Store) -> None:
    permits = await taken(store.limiter, 2)
    await reported(store, permits[0], Report(Verdict.ANSWERED, signs=RateSigns(Bucket(100, 60, 2))))
    assert (await state(store))["request_until"] == 0, "more than half full: no bound"
    await reported(store, permits[1], Report(Verdict.ANSWERED, signs=RateSigns(Bucket(100, 40, 2))))
    started = time.monotonic()
    await taken(store.limiter, 7)
    assert 6 / 30 - 0.1 < time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("rates", "reason"), [(Rates(min_spacing_ms=100), "spacing"), (Rates(requests_per_minute=600), "rate")]
)
async def test_starts_are_spaced(store: Store, rates: Rates, reason: str) -> None:
    reasons = []

    async def on_wait(told: str) -> None:
        reasons.append(told)

    started = time.monotonic()
    await asyncio.gather(*(store.limiter.acquire(Wish(ENDPOINT, rates, "s", 0), on_wait) for _ in range(6)))
    assert 0.44 < time.monotonic() - started < 2
    assert reasons == [reason] * len(reasons) != []


async def test_tokens_are_paced_and_settled_by_what_was_counted(store: Store) -> None:
    started = time.monotonic()
    first = await store.limiter.acquire(wish(tokens=1000, tokens_per_minute=600_000), quiet)
    await reported(store, first, Report(Verdict.ANSWERED, tokens=3000))
    await store.limiter.acquire(wish(tokens=1000, tokens_per_minute=600_000), quiet)
    assert 0.2 < time.monotonic() - started < 2
    assert float((await state(store))["token_ratio"]) > 1


async def test_a_small_swarm_is_next_whatever_a_large_one_has_queued(store: Store) -> None:
    served: Counter[str] = Counter()

    async def branch(swarm: str) -> None:
        while served["small"] < 20:
            permit = await store.limiter.acquire(wish(swarm, max_concurrency=2), quiet)
            served[swarm] += 1
            await asyncio.sleep(0.001)
            permit.release(OK)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(branch("large") for _ in range(60)), *(branch("small") for _ in range(2)))
    assert served["large"] - 60 < 3 * served["small"]


async def test_a_cancelled_waiter_leaves_and_a_cancelled_call_gives_back(store: Store) -> None:
    [held] = await taken(store.limiter, 1, max_concurrency=1)
    waiters = [asyncio.create_task(store.limiter.acquire(wish(max_concurrency=1), quiet)) for _ in range(3)]
    await eventually(store, flying=1, waiting=3)
    waiters[0].cancel()
    await eventually(store, flying=1, waiting=2)
    held.release(Report(Verdict.FAILED))
    done, _ = await asyncio.wait(waiters[1:], return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    for waiter in done:
        waiter.result().release(OK)
    await eventually(store, flying=0, waiting=0)


async def test_permits_of_the_dead_expire(store: Store, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.store.limiter.PERMIT_SECONDS", 0.3)
    async with other_process(valkey) as dead:  # it does not come to renew them
        await taken(dead, 2, max_concurrency=2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        permit = await store.limiter.acquire(wish(max_concurrency=2), quiet)
    assert permit.waited_seconds > 0.1


async def test_the_permit_of_a_long_call_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.store.limiter.PERMIT_SECONDS", 0.3)
    monkeypatch.setattr("swarmq.store.limiter.KEEP_SECONDS", 0.02)
    [held] = await taken(store.limiter, 1, max_concurrency=1)
    waiting = asyncio.create_task(store.limiter.acquire(wish(max_concurrency=1), quiet))
    good_until = await store.now() + 0.6
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await store.now() < good_until:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        held.release(OK)
        (await waiting).release(OK)
    await eventually(store, flying=0, waiting=0)


async def test_a_dead_waiter_is_passed_over(store: Store) -> None:
    [held] = await taken(store.limiter, 1, max_concurrency=1)
    dead = asyncio.create_task(store.limiter.acquire(wish("dead", max_concurrency=1), quiet))
    await eventually(store, flying=1, waiting=1)
    [ticket] = await store.gate.call("ZRANGE", keys.LIMITER[2](ENDPOINT), 0, -1)
    raw = (await store.gate.call("HGET", keys.LIMITER[3](ENDPOINT), ticket)).split(b"|")
    await store.gate.call("HSET", keys.LIMITER[3](ENDPOINT), ticket, b"|".join([*raw[:3], b"gone", raw[4]]))
    alive = asyncio.create_task(store.limiter.acquire(wish(max_concurrency=1), quiet))
    held.release(OK)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await alive
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)


async def test_what_redis_forgot_is_asked_for_again(store: Store) -> None:
    await taken(store.limiter, 1, max_concurrency=1)
    waiting = asyncio.create_task(store.limiter.acquire(wish(max_concurrency=1), quiet))
    await eventually(store, flying=1, waiting=1)
    await store.gate.call("DEL", *(key(ENDPOINT) for key in keys.LIMITER))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
    assert await in_flight(store) == 1


async def test_a_report_counts_once_and_keys_expire(store: Store) -> None:
    [permit, _] = await taken(store.limiter, 2)
    permit.release(OK)
    permit.release(Report(Verdict.LIMITED))
    await store.limiter.aclose()
    assert await in_flight(store) == 1
    assert (await state(store))["misses"] == 0
    for key in keys.LIMITER:
        if await store.gate.call("EXISTS", key(ENDPOINT)):
            assert 0 < await store.gate.call("TTL", key(ENDPOINT)) <= 3600


async def test_processes_that_are_gone_are_forgotten(store: Store, valkey: Valkey) -> None:
    name = keys.LIMITER[5](ENDPOINT)
    await taken(store.limiter, 1)
    await store.gate.call("HSET", name, "gone", time.time() - 3700, "idle", time.time() - 60)
    async with other_process(valkey) as other:
        await taken(other, 1)
    there = [raw.decode() for raw in await store.gate.call("HKEYS", name)]
    assert len(there) == 3
    assert "idle" in there


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(reports, min_size=1, max_size=20), st.sampled_from([0, 1, 10**9]))
def test_whatever_calls_meet_the_limits_stay_sane(valkey: Valkey, met: list[Report], tokens: int) -> None:
    async def play() -> tuple[dict[str, float], float, int]:
        gate, endpoint = Gate(parse_address(valkey.url), retry_seconds=5, max_connections=4), next(_endpoints)
        store, rates = Store(gate), Rates(max_concurrency=25)
        permits = [await store.limiter.acquire(Wish(endpoint, rates, "s", tokens), quiet) for _ in met]
        for permit, report in zip(permits, met, strict=True):
            permit.release(report)
        await store.limiter.aclose()
        known = orjson.loads(await gate.call("GET", keys.LIMITER[0](endpoint)))
        now, flying = await store.now(), int(await gate.call("ZCARD", keys.LIMITER[1](endpoint)))
        await gate.aclose()
        return known, now, flying

    known, now, flying = asyncio.run(play())
    assert flying == 0
    assert 1 <= known["limit"] <= 25
    assert 0 <= known["floor"] <= known["ceiling"] < 1e6
    assert known["hold_until"] <= now + 601
    assert 5 <= known["plateau"] <= 60
    assert 0.01 <= known["token_ratio"] <= 10
