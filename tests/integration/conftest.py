"""A real Valkey for every integration test, started once per session (per xdist worker)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from repeating_gate import RepeatingGate
from valkey_server import DATABASES, Valkey, ValkeyServer

from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.store import Store

_databases = itertools.cycle(range(DATABASES))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Valkey:
    """An empty database, at ``valkey.url``."""
    found = Valkey(valkey_server, next(_databases))
    with valkey_server.client(found.database) as client:
        client.flushdb()
    return found


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that this test alone uses, and may kill, freeze and start again: what was acknowledged is on disk."""
    with ValkeyServer(durable=True) as server:
        yield server


@pytest.fixture(params=[Gate, RepeatingGate], ids=["once", "every-reply-lost"])
async def store(valkey: Valkey, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Every test of the store's meaning runs twice: the second time each command is executed, then repeated."""
    gate = request.param(parse_address(valkey.url), retry_seconds=5, max_connections=8)
    yield Store(gate)
    await gate.aclose()
