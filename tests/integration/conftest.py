"""A real Valkey for every integration test, started once per session (per xdist worker)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from repeating_gate import RepeatingGate
from valkey_server import DATABASES, Valkey, ValkeyServer

from swarmq.store.address import parse_address
from swarmq.store.connection import Gate
from swarmq.store.store import Store

if TYPE_CHECKING:  # the client of Kubernetes takes a second to import
    from kubernetes_double import KubernetesDouble
    from pods_bench import Bench

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


@pytest.fixture
def double(tmp_path: Path) -> Iterator[KubernetesDouble]:
    """A small cluster, in which the worker's account may do what pod mode asks for and nothing else."""
    from kubernetes_double import KubernetesDouble, Rights

    from swarmq.kubernetes.rights import RIGHTS

    rights = Rights({(right.verb, right.resource) for right in RIGHTS} | {("list", "events")})
    cluster = KubernetesDouble.start(tmp_path / "cluster", rights)
    yield cluster
    cluster.close()


@pytest.fixture
async def bench(double: KubernetesDouble) -> AsyncIterator[Bench]:
    """A worker process's half of pod mode, on that cluster."""
    from pods_bench import open_bench

    async with open_bench(double) as made:
        yield made
