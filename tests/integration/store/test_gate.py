"""The gate to Redis: one connection for all callers, and what Redis says no to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import redis
from valkey_server import Valkey, ValkeyServer

from swarmq.errors import StoreError, UsageError
from swarmq.store.connection import Gate
from swarmq.store.server import check


@pytest.fixture
async def gate(valkey: Valkey) -> AsyncIterator[Gate]:
    gate = Gate.open(valkey.url, retry_seconds=5, max_connections=3)
    yield gate
    await gate.aclose()


async def connections(gate: Gate) -> int:
    return len((await gate.call("CLIENT", "LIST", "TYPE", "normal")).splitlines())


async def test_all_callers_share_a_connection_and_get_their_own_replies(gate: Gate) -> None:
    texts = [f"text {n}" for n in range(2000)]
    replies = await asyncio.gather(*(gate.call("ECHO", text) for text in texts))
    assert [reply.decode() for reply in replies] == texts
    assert await connections(gate) == 1


async def test_cancelled_callers_do_not_shift_the_replies_of_others(gate: Gate) -> None:
    async def echo(text: str) -> str:
        return str((await gate.call("ECHO", text)).decode())

    chance = random.Random(1)
    for _ in range(20):
        tasks = [asyncio.create_task(echo(f"{n}")) for n in range(100)]
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        cancelled = {n for n in range(100) if chance.random() < 0.3 and tasks[n].cancel()}
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(replies[n] == f"{n}" for n in range(100) if n not in cancelled)
    assert await connections(gate) == 1


async def test_a_batch_answers_in_order_and_tells_the_first_refusal(gate: Gate) -> None:
    assert await gate.batch([("SET", "a", 1), ("INCRBYFLOAT", "a", 0.5), ("GET", "b")]) == [b"OK", b"1.5", None]
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await gate.batch([("SET", "c", 1), ("LPUSH", "a", 1), ("HGET", "a", "x")])
    assert await gate.call("GET", "c") == b"1"


async def test_large_values_pass(gate: Gate) -> None:
    value = random.Random(1).randbytes(5_000_000)
    await gate.call("SET", "large", value)
    assert (await gate.batch([("GET", "large"), ("ECHO", "x"), ("GET", "large")]))[2] == value


async def test_scripts_are_loaded_when_redis_does_not_know_them(gate: Gate) -> None:
    for _ in range(2):
        await gate.call("SCRIPT", "FLUSH")
        replies = await asyncio.gather(*(gate.script("cache_stats", ("r", "a", "s"), ()) for _ in range(10)))
        assert replies == [[0, []]] * 10


async def test_blocking_readers_have_connections_of_their_own_and_wait_for_a_free_one(gate: Gate) -> None:
    async with gate.reader(0.01) as read:  # max_connections is 3: one is left for readers
        waiting = asyncio.create_task(_read_once(gate))
        assert await read("BLPOP", "nothing", 0.01) is None
        assert await connections(gate) == 2
        assert not waiting.done()
    assert await waiting is None
    assert await connections(gate) <= 2


async def _read_once(gate: Gate) -> object:
    async with gate.reader(0.01) as read:
        return await read("BLPOP", "nothing", 0.01)


async def test_a_closed_gate_says_so(gate: Gate) -> None:
    waiting = asyncio.create_task(gate.call("ECHO", "x"))
    await gate.aclose()
    for call in (waiting, gate.call("ECHO", "x")):
        with pytest.raises(StoreError, match="was closed by this process"):
            await call
    await gate.aclose()


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
async def test_a_refused_login_is_told_at_once_and_without_the_password(valkey: Valkey, login: str) -> None:
    url = f"unix://{login}{valkey.server.socket}"
    gate = Gate.open(url, retry_seconds=60)
    async with asyncio.timeout(2):
        with pytest.raises(StoreError, match=r"refuses the login .*; check user and password in redis_url") as caught:
            await gate.call("GET", "x")
        with pytest.raises(StoreError, match="refuses the login"):
            await check(url)
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    await gate.aclose()


async def test_a_database_that_is_not_there_is_told_at_once(valkey: Valkey) -> None:
    gate = Gate.open(valkey.server.url(10_000), retry_seconds=60)
    async with asyncio.timeout(2):
        with pytest.raises(StoreError, match="out of range"):
            await gate.call("GET", "x")
    await gate.aclose()


async def test_a_full_redis_is_told_at_once_and_still_reads(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=60)
    await gate.call("SET", "a", 1)
    await gate.call("CONFIG", "SET", "maxmemory", 1)
    async with asyncio.timeout(2):
        with pytest.raises(StoreError, match="is full"):
            await gate.call("SET", "a", 2)
        with pytest.raises(StoreError, match="is full"):
            await gate.script("cache_put", ("r", "s", "t"), ("key", "value", 10, 1000))
    assert await gate.call("GET", "a") == b"1"
    await gate.aclose()


async def test_a_replica_is_told_at_once(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=60)
    await gate.call("REPLICAOF", "127.0.0.1", 1)
    async with asyncio.timeout(2):
        with pytest.raises(StoreError, match="read-only replica; name the primary"):
            await gate.call("SET", "a", 2)
    with pytest.raises(StoreError, match="read-only replica; name the primary"):
        await check(own_valkey.url())
    await gate.aclose()


def refusals(server: redis.Redis) -> int:
    """Writes that were refused so far."""
    return int(server.info("stats")["total_error_replies"])


@pytest.mark.parametrize("how", ["full", "a replica"])
async def test_a_patient_gate_waits_until_the_server_is_mended(own_valkey: ValkeyServer, how: str) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=60, patient=True)
    await gate.call("SET", "a", 1)
    with own_valkey.client() as server:
        if how == "full":
            server.config_set("maxmemory", 1)
        else:
            server.replicaof("127.0.0.1", 1)
        before = refusals(server)
        writing = asyncio.create_task(gate.call("INCR", "a"))
        async with asyncio.timeout(10):
            while refusals(server) <= before:
                await asyncio.sleep(0)
        assert not writing.done()
        assert await gate.call("GET", "a") == b"1"
        if how == "full":
            server.config_set("maxmemory", 0)
        else:
            server.replicaof("NO", "ONE")
    assert await writing == 2
    await gate.aclose()


async def test_a_patient_gate_says_in_the_end_what_is_wrong(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=0.2, patient=True)
    await gate.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreError, match=r"is full .*CONFIG SET maxmemory"):
        await gate.call("SET", "a", 2)
    await gate.aclose()


async def test_a_user_without_rights_is_told_so(own_valkey: ValkeyServer) -> None:
    gate = Gate.open(own_valkey.url(), retry_seconds=60)
    await gate.call("ACL", "SETUSER", "guest", "on", ">pass", "~*", "+get", "+client")
    guest = Gate.open(f"unix://guest:pass@{own_valkey.socket}", retry_seconds=60)
    assert await guest.call("GET", "a") is None
    with pytest.raises(StoreError, match=r"refuses: .*permissions"):
        await guest.call("SET", "a", 1)
    await gate.aclose()
    await guest.aclose()


async def test_check_tells_what_answers_and_what_endangers_records(own_valkey: ValkeyServer) -> None:
    found = await check(own_valkey.url())
    assert (found.server, found.dangers) == ("valkey", ())
    assert found.version.startswith("9.")
    assert found.address == f"unix://{own_valkey.socket}"
    with own_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    policy, append = map(str, (await check(own_valkey.url())).dangers)
    assert "maxmemory-policy is allkeys-lru" in policy
    assert "set it to noeviction" in policy
    assert "appendonly is off" in append


async def test_check_does_not_wait_long(own_valkey: ValkeyServer) -> None:
    own_valkey.freeze()
    async with asyncio.timeout(3):
        with pytest.raises(StoreError, match=r"Redis at unix://.* does not answer .*; check that it runs") as caught:
            await check(own_valkey.url())
    assert own_valkey.password not in str(caught.value)
    own_valkey.kill()
    async with asyncio.timeout(1):
        with pytest.raises(StoreError, match="does not answer"):
            await check(own_valkey.url())
    with pytest.raises(UsageError, match="redis_url"):
        await check("http://localhost")


async def test_celerys_form_of_a_socket_url_is_understood(valkey: Valkey) -> None:
    celerys = f"redis+socket://:{valkey.server.password}@{valkey.server.socket}?virtual_host={valkey.database}"
    ours, theirs = Gate.open(valkey.url), Gate.open(celerys)
    await ours.call("SET", "a", "same database")
    assert await theirs.call("GET", "a") == b"same database"
    await ours.aclose()
    await theirs.aclose()
