"""``--runs N`` repeats each fault, ``--matrix FILE`` keeps the figures; both end in a table of faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from chaos_fleet import ChaosFleet, Fleets
from verdict import Verdict, check_quiet

FAULT, FIGURES, RUN = "fault", "figures", "run "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runs", type=int, default=1, help="How often each fault is injected.")
    parser.addoption("--matrix", type=Path, default=None, help="File to which each run's figures are appended.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    runs = metafunc.config.getoption("--runs")
    if runs > 1:
        metafunc.fixturenames.append("run_number")
        metafunc.parametrize("run_number", range(1, runs + 1), ids=lambda number: f"{RUN}{number}")


@pytest.fixture(scope="session")
def fleets() -> Iterator[Fleets]:
    kept = Fleets()
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def _quiet(fleets: Fleets) -> Iterator[None]:
    """At the end of each file of tests nothing waits any more."""
    yield
    fleets.check(check_quiet)


@pytest.fixture
def fleet(fleets: Fleets, request: pytest.FixtureRequest, _quiet: None) -> Iterator[ChaosFleet]:
    yield fleets.get()
    if getattr(request.node, "failed", False):
        fleets.close()


@pytest.fixture(autouse=True)
def _fault(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """The fault's name: that of the test with its parameters, without the run's number. Only fleets have faults."""
    if "fleet" not in request.fixturenames:
        return
    name = request.node.originalname.removeprefix("test_")
    callspec = getattr(request.node, "callspec", None)
    ids = [] if callspec is None else [id_ for id_ in callspec._idlist if not id_.startswith(RUN)]
    record_property(FAULT, f"{name}: {'-'.join(ids)}" if ids else name)


@pytest.fixture
def passed(record_property: Callable[[str, object], None]) -> Callable[[Verdict], None]:
    """Keep a verdict's figures."""
    return lambda verdict: record_property(FIGURES, asdict(verdict))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the processes said."""
    report = yield
    fleet = getattr(item, "funcargs", {}).get("fleet")
    if report.when == "call" and report.failed and isinstance(fleet, ChaosFleet):
        item.failed = True  # type: ignore[attr-defined]
        for path in sorted(fleet.stack.root.glob("*.log")):
            report.sections.append((f"log of {path.stem}", path.read_text(errors="replace")[-4000:]))
    return report


def _run(report: pytest.TestReport) -> dict[str, Any]:
    properties: dict[str, Any] = dict(report.user_properties)
    return {"fault": properties[FAULT], "passed": report.passed, **properties.get(FIGURES, {})}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [
        report
        for kind in ("passed", "failed")
        for report in terminalreporter.stats.get(kind, [])
        if report.when == "call" and FAULT in dict(report.user_properties)
    ]
    rows: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        run = _run(report)
        rows.setdefault(run["fault"], []).append(run)
    write = terminalreporter.write_line
    write(
        f"\n{'fault':<48} {'runs':>4} {'failed':>6} {'worst recovery':>14} {'corrected':>9}"
        f" {'extra calls: mean':>17} {'worst':>5}"
    )
    for fault, runs in rows.items():
        extra = [run["extra_calls"] for run in runs if "extra_calls" in run] or [0]
        recoveries = [run["recovery"] for run in runs if "recovery" in run]
        worst = max((recovery["seconds"] for recovery in recoveries), default=0.0)
        corrected = max((recovery["corrected_seconds"] for recovery in recoveries), default=0.0)
        failed = sum(not run["passed"] for run in runs)
        mean = sum(extra) / len(extra)
        write(
            f"{fault:<48} {len(runs):>4} {failed:>6} {worst:>12.1f} s {corrected:>7.1f} s {mean:>17.1f} {max(extra):>5}"
        )
    matrix = config.getoption("--matrix")
    if matrix is not None and not hasattr(config, "workerinput"):  # xdist's workers sum up too, each its own share
        with matrix.open("a") as file:
            file.writelines(json.dumps(run) + "\n" for runs in rows.values() for run in runs)
