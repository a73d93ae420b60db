from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from swarmq.devstack.guard import end_leftovers
from swarmq.devstack.layout import Layout, prepare_state
from swarmq.devstack.record import ProcessRecord, StackRecord, describe, end, end_all, find, read_record
from swarmq.devstack.status import look


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def known(process: subprocess.Popen[bytes], name: str = "agents") -> ProcessRecord:
    record = describe(name, process.pid, Path("agents.log"))
    assert record is not None
    return record


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    process = ProcessRecord("agents", 123, 456.5, "agents.log", restarts=2)
    record = StackRecord("running", "/run", supervisor=process, processes=(process, process))
    record.write(tmp_path / "stack.json")
    assert read_record(tmp_path / "stack.json") == record


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "{", '{"state": "running"}', '{"processes": [1]}', '{"processes": 1}']
)
def test_a_file_that_is_no_record_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stack.json"
    assert read_record(path) is None
    path.write_text(text)
    assert read_record(path) is None


def test_a_record_of_a_later_version_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    StackRecord("running", "/run").write(path)
    path.write_text(path.read_text().replace('"reason"', '"cause"'))
    assert read_record(path) is None


def test_finds_a_process_by_pid_and_creation(sleeper: subprocess.Popen[bytes]) -> None:
    record = known(sleeper)
    found = find(record)
    assert found is not None
    assert found.pid == sleeper.pid
    assert find(replace(record, created_at=record.created_at - 60)) is None
    assert find(None) is None


def test_a_zombie_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    record = known(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE
    assert find(record) is None
    sleeper.wait()
    assert describe("agents", sleeper.pid, Path("agents.log")) is None


def test_ends_only_the_process_that_was_meant(sleeper: subprocess.Popen[bytes]) -> None:
    record = known(sleeper)
    end([replace(record, created_at=record.created_at - 60)], grace_seconds=0)
    assert sleeper.poll() is None
    end([record], grace_seconds=5)
    assert sleeper.wait(timeout=5) == -15


def test_kills_what_ignores_the_signal_with_its_children() -> None:
    script = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        end([known(process)], grace_seconds=0.05)
        assert process.wait(timeout=5) == -9
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_valkey_is_ended_last(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("swarmq.devstack.record.end", lambda records, grace: calls.append([r.name for r in records]))
    end_all([ProcessRecord(name, 1, 0, "") for name in ("valkey", "control", "beat")], 1)
    assert calls == [["control", "beat"], ["valkey"]]


def test_leftovers_are_ended_and_noted(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    layout = Layout(tmp_path / "state", tmp_path / "run")
    prepare_state(layout)
    end_leftovers(layout, 1)
    assert not layout.record.exists()
    record = StackRecord("running", str(layout.runtime_dir), processes=(known(sleeper),))
    record.write(layout.record)
    end_leftovers(layout, 5)
    assert sleeper.wait(timeout=5) == -15
    left = read_record(layout.record)
    assert left is not None
    assert (left.state, left.reason, left.processes) == ("failed", "the supervisor was killed", ())


def test_status_without_a_stack(tmp_path: Path) -> None:
    status = look(Layout(tmp_path, tmp_path / "run"))
    assert (status.state, status.running, status.rss_bytes) == ("stopped", False, 0)


def test_status_shows_what_lives(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    layout = Layout(tmp_path / "state", tmp_path / "run")
    prepare_state(layout)
    alive = known(sleeper)
    gone = replace(alive, name="control", created_at=alive.created_at - 60)
    record = StackRecord("running", str(layout.runtime_dir), supervisor=alive, processes=(alive, gone))
    record.write(layout.record)
    layout.workers_dir.mkdir(parents=True)
    (layout.workers_dir / "agents-1.json").write_text(f'{{"pid": {sleeper.pid}}}')
    (layout.workers_dir / "half.json").write_text('{"pi')

    status = look(layout)
    assert status.running
    assert [process.name for process in status.processes] == ["agents", "agents"]
    assert all(process.ready for process in status.processes)
    assert status.rss_bytes > 0
    replace(record, supervisor=gone).write(layout.record)
    assert (look(layout).state, look(layout).reason) == ("failed", "the supervisor was killed")
