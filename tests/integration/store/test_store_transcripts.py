"""Transcripts: fenced, in order, once; and the budget of steps that every record of a step counts in."""

from __future__ import annotations

import pytest
from store_samples import DONE, SWARM, event, lease_over, opened, record
from valkey_server import ValkeyServer

from swarmq.errors import LeaseLost, SchemaError
from swarmq.models.messages import Usage, user
from swarmq.models.transcript import Entry
from swarmq.store import keys
from swarmq.store.connection import Gate
from swarmq.store.events import encode
from swarmq.store.store import Store


async def claimed(store: Store, branch_id: str = "a", lease_seconds: float = 60) -> int:
    claim = await store.branches.claim(SWARM, branch_id, "w", lease_seconds)
    assert claim.status == "claimed"
    return claim.token


async def texts(store: Store, branch_id: str = "a") -> list[str]:
    return [entry.message.text for entry in await store.transcripts.load(SWARM, branch_id)]


async def test_entries_are_appended_in_order_with_events_and_counters(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store)
    entry = Entry(step=1, at=2.5, message=user("three"), usage=Usage(input_tokens=7), seconds=0.25)
    recorded = await record(store, "a", token, 0, "one", "two", steps=1)
    assert (recorded.limit, recorded.cancel_reason) == (None, None)
    usage = Usage(input_tokens=7, output_tokens=3, cached_tokens=5, cache_write_tokens=2)
    await store.transcripts.record(
        SWARM, "a", token, 2, [entry.encode()], [encode(event(text="told"))],
        steps=0, tool_calls=2, usage=usage, reserve=None,
    )  # fmt: skip
    assert await texts(store) == ["one", "two", "three"]
    assert (await store.transcripts.load(SWARM, "a"))[2] == entry
    assert (await store.events.read(SWARM))[-1].data == {"text": "told"}
    counters = await store.swarms.counters(SWARM)
    assert (counters["steps"], counters["tool_calls"]) == (1, 2)
    assert (counters["input_tokens"], counters["output_tokens"]) == (17, 4)
    assert (counters["cached_tokens"], counters["cache_write_tokens"]) == (5, 2)
    assert await store.transcripts.load(SWARM, "unknown") == []


async def test_a_long_transcript_is_read_in_pages(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store)
    expected = [f"text {n}" for n in range(200)]
    await record(store, "a", token, 0, *expected)
    assert await texts(store) == expected
    await record(store, "a", token, 200, *["more"] * 56)  # a multiple of the page
    assert len(await texts(store)) == 256


async def test_a_write_at_the_wrong_position_is_refused_whole(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store)
    await record(store, "a", token, 0, "one", steps=1)
    for index in (0, 2):
        with pytest.raises(LeaseLost, match="another length"):
            await record(store, "a", token, index, "two", steps=1)
    assert await texts(store) == ["one"]
    assert (await store.swarms.counters(SWARM))["steps"] == 1


async def test_nothing_is_written_without_a_claim_or_after_the_end(store: Store) -> None:
    await opened(store, "a")
    with pytest.raises(LeaseLost):
        await record(store, "a", 0, 0, "not claimed yet")
    with pytest.raises(LeaseLost):
        await record(store, "z", 1, 0, "no such branch")
    token = await claimed(store)
    await store.branches.finish(SWARM, "a", token, DONE)
    with pytest.raises(LeaseLost):
        await record(store, "a", token, 0, "after the end")
    assert await texts(store) == []


async def test_a_checkpoint_is_noted_and_survives_the_holder(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store, lease_seconds=0.001)
    await store.transcripts.checkpoint(SWARM, "a", token, "c0ffee")
    await lease_over(store, "a")
    claim = await store.branches.claim(SWARM, "a", "w2", 60)
    assert claim.record is not None
    assert claim.record.checkpoint == "c0ffee"


async def test_steps_are_reserved_from_the_swarms_budget(store: Store) -> None:
    await opened(store, "a", "b", max_total_steps=3)
    a, b = await claimed(store, "a"), await claimed(store, "b")
    assert (await record(store, "a", a, 0, "system", reserve=True)).limit is None
    assert (await record(store, "b", b, 0, "system", reserve=True)).limit is None
    assert (await record(store, "a", a, 1, "answer", steps=1)).limit is None
    assert (await record(store, "a", a, 2, "tools", reserve=True)).limit is None
    assert (await record(store, "b", b, 1, "answer", steps=1)).limit is None
    assert (await record(store, "b", b, 2, "tools", reserve=True)).limit == "max_total_steps"
    counters = await store.swarms.counters(SWARM)
    assert (counters["steps"], counters["reserved_steps"]) == (2, 3)
    await store.gate.call("HSET", keys.SWARM(SWARM), "max_total_steps", 4)
    assert (await record(store, "b", b, 3, "tools", reserve=True)).limit is None  # a larger budget leaves one


async def test_a_reserved_step_is_not_reserved_again_by_the_next_holder(store: Store) -> None:
    await opened(store, "a", "b", max_total_steps=1)
    old = await claimed(store, "a", lease_seconds=0.001)
    assert (await record(store, "a", old, 0, "system", reserve=True)).limit is None
    await lease_over(store, "a")
    new = await claimed(store, "a")
    assert (await record(store, "a", new, 1, reserve=True)).limit is None
    other = await claimed(store, "b")
    assert (await record(store, "b", other, 0, "system", reserve=True)).limit == "max_total_steps"
    await store.branches.finish(SWARM, "a", new, DONE)  # it never used its step
    assert (await record(store, "b", other, 1, reserve=True)).limit is None


async def test_a_step_without_a_reservation_counts_too(store: Store) -> None:
    await opened(store, "a", max_total_steps=2)
    token = await claimed(store)
    await record(store, "a", token, 0, "one", steps=2)
    assert (await record(store, "a", token, 1, "two", reserve=True)).limit == "max_total_steps"


async def test_a_record_is_one_command(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url())
    store = Store(gate)
    await opened(store, "a")
    token = await claimed(store)
    await record(store, "a", token, 0, "the script is loaded now")
    with own_valkey.client() as client:
        client.config_resetstat()
        for index in range(1, 21):
            await record(store, "a", token, index, "text", steps=1, reserve=True)
        calls = {name: facts["calls"] for name, facts in client.info("commandstats").items()}
    sent = {
        name: count for name, count in calls.items() if name.partition("_")[2] in ("evalsha", "eval", "script|load")
    }
    assert sent == {"cmdstat_evalsha": 20}
    await gate.aclose()


async def test_an_entry_that_cannot_be_read_is_named(store: Store) -> None:
    await opened(store, "a")
    token = await claimed(store)
    await record(store, "a", token, 0, "one", "two")
    newer = b'{"v":2,"step":0,"at":1,"message":{"role":"user","parts":[]}}'
    for raw, problem in ((newer, "schema version 2"), (b"{]", "not a JSON object")):
        await store.gate.call("LSET", keys.TRANSCRIPT(SWARM, "a"), 1, raw)
        with pytest.raises(SchemaError, match=f"transcript entry 1: .*{problem}"):
            await store.transcripts.load(SWARM, "a")
