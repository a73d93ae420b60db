from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet_stack import FleetStack, running_fleet

from swarmq.client import Client


@pytest.fixture(scope="module")
def fleet() -> Iterator[FleetStack]:
    """One fleet for the tests of a module; each test uses a repository of its own."""
    with running_fleet() as running:
        yield running


@pytest.fixture(scope="module")
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected
