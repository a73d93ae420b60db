"""A cluster of its own for each test; the worker's account may do what pod mode asks for and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kubernetes_double import KubernetesDouble, Rights
from pods_bench import Bench, open_bench

from swarmq.kubernetes.rights import RIGHTS


@pytest.fixture
def double(tmp_path: Path) -> Iterator[KubernetesDouble]:
    rights = Rights({(right.verb, right.resource) for right in RIGHTS} | {("list", "events")})
    cluster = KubernetesDouble.start(tmp_path / "cluster", rights)
    yield cluster
    cluster.close()


@pytest.fixture
async def bench(double: KubernetesDouble) -> AsyncIterator[Bench]:
    async with open_bench(double) as made:
        yield made
