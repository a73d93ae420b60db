from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from fleet_stack import FleetStack, running_fleet

from swarmq import Client


@pytest.fixture(scope="module")
def fleet() -> Iterator[FleetStack]:
    """One fleet for the tests of a module; each test uses a repository of its own."""
    with running_fleet() as running:
        yield running


@pytest.fixture(scope="module")
def client(fleet: FleetStack) -> Iterator[Client]:
    with Client(fleet.url, settings=fleet.settings()) as connected:
        yield connected


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the processes said."""
    report = yield
    fleet = getattr(item, "funcargs", {}).get("fleet")
    if report.when == "call" and report.failed and isinstance(fleet, FleetStack):
        for name in (*fleet.processes, "producer"):
            if (fleet.root / f"{name}.log").exists():
                report.sections.append((f"log of {name}", fleet.log(name)[-4000:]))
    return report
