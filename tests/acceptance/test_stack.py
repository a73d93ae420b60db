"""The embedded stack with real processes: a real supervisor, guard and Valkey, and stand-ins for the workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import redis

from swarmq.devstack.control import call
from swarmq.devstack.plan import Backoff
from swarmq.devstack.record import ProcessRecord, StackRecord, describe, find, read_record
from swarmq.devstack.stack import QUEUES, Stack
from swarmq.devstack.status import ProcessStatus, StackInfo
from swarmq.errors import EnvironmentFault, UsageError
from swarmq.settings import load_settings

T = TypeVar("T")

WORKER = Path(__file__).with_name("stack_worker.py")
WAIT_SECONDS = 20.0
NAMES = (*QUEUES, "beat")


def until(look: Callable[[], T | None]) -> T:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return found


class Place:
    """A state and a runtime directory of a test's own. The latter is short: it is to hold sockets."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sq-", dir="/tmp"))
        self.state, self.runtime = self.root / "state", self.root / "run"

    def stack(self, modes: dict[str, str] | None = None, **settings: Any) -> Stack:
        commands = {
            name: [sys.executable, str(WORKER), name, *([modes[name]] if modes and name in modes else [])]
            for name in NAMES
        }
        options = {"state_dir": self.state, "runtime_dir": self.runtime} | settings
        quick = Backoff(first_seconds=0.01, most_seconds=0.05, quick_seconds=2.0, quick_deaths=3)
        return Stack(load_settings(**options), commands=commands, backoff=quick, grace_seconds=1.5, delays_seconds={})

    def reports(self, event: str) -> list[dict[str, Any]]:
        path = self.state / "reports.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    def record(self) -> StackRecord:
        record = read_record(self.state / "stack" / "stack.json")
        assert record is not None
        return record

    def pid(self, name: str) -> int:
        return next(process.pid for process in self.record().processes if process.name == name)

    def pids(self) -> list[int]:
        record = self.record()
        heads = [head for head in (record.supervisor, record.guard) if head]
        return [process.pid for process in (*heads, *record.processes)]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for variable in [name for name in os.environ if name.startswith("SWARMQ_") or name.endswith("_API_KEY")]:
        monkeypatch.delenv(variable)
    place = Place()
    yield place
    place.stack().down(force=True)
    leaked = [p.cmdline() for p in psutil.process_iter(["environ", "cmdline"]) if _belongs(p, place.root)]
    shutil.rmtree(place.root)
    assert leaked == []


def _belongs(process: psutil.Process, root: Path) -> bool:
    places = [str(process.info["cmdline"]), str((process.info["environ"] or {}).get("SWARMQ_STATE_DIR", ""))]
    return any(str(root) in text for text in places) and process.pid != os.getpid()


def client(info: StackInfo) -> redis.Redis:
    url = info.redis_url.replace("redis+socket://", "unix://").replace("virtual_host", "db")
    return redis.Redis.from_url(url, decode_responses=True, single_connection_client=True)


def test_starts_once_and_is_private(place: Place) -> None:
    stack = place.stack()
    info = stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    again = place.stack().ensure()

    assert (info.started, again.started) == (True, False)
    assert again.redis_url == info.redis_url
    with client(info) as store:
        assert store.ping()
        settings = store.config_get("*")
    expected = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert {name: settings[name] for name in expected} == expected
    password = settings["requirepass"]
    assert len(password) > 30
    assert password not in repr(info)
    assert info.url_file is not None
    assert info.url_file.read_text() == info.redis_url
    for secret in (info.url_file, place.state / "stack" / "password", place.state / "stack" / "valkey.conf"):
        assert secret.stat().st_mode & 0o777 == 0o600
    for pid in place.pids():
        process = psutil.Process(pid)
        assert password not in str(process.cmdline())
        with contextlib.suppress(psutil.AccessDenied):  # hidden from everybody but root: better still
            assert password not in str(process.environ())
            assert process.net_connections("inet") == []


def test_the_real_workers_take_tasks(place: Place) -> None:
    stack = Stack(load_settings(state_dir=place.state, runtime_dir=place.runtime))
    stack.ensure()
    stack.wait_ready(60)
    until(lambda: "beat" in {process.name for process in place.record().processes})
    until(lambda: "Starting" in (place.state / "stack" / "logs" / "beat.log").read_text())
    assert stack.down()
    logs = {log.stem: log.read_text() for log in (place.state / "stack" / "logs").iterdir()}
    assert logs.keys() == {*NAMES, "valkey", "supervisor"}
    assert "Traceback" not in "".join(logs.values())
    assert logs["supervisor"] == ""


def test_refuses_a_client_without_the_password(place: Place) -> None:
    place.stack().ensure()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(place.runtime / "valkey.sock"))
        stranger.sendall(b"KEYS *\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_concurrent_clients_share_one(place: Place) -> None:
    script = (
        "import json, sys\nfrom swarmq.devstack.stack import Stack\nfrom swarmq.settings import load_settings\n"
        "info = Stack(load_settings(), commands=json.loads(sys.argv[1]), grace_seconds=1.5).ensure()\n"
        "print(info.started, info.redis_url)"
    )
    commands = json.dumps({name: [sys.executable, str(WORKER), name] for name in NAMES})
    places = {"SWARMQ_STATE_DIR": str(place.state), "SWARMQ_RUNTIME_DIR": str(place.runtime)}
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", script, commands], env=os.environ | places, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    answers = [process.communicate(timeout=WAIT_SECONDS)[0].split() for process in clients]

    assert sorted(answer[0] for answer in answers) == ["False"] * 5 + ["True"]
    assert len({answer[1] for answer in answers}) == 1
    until(lambda: len(place.reports("started")) == len(NAMES))


def test_stops_workers_first_and_leaves_nothing(place: Place) -> None:
    stack = place.stack()
    stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    until(lambda: len(place.reports("started")) == len(NAMES))
    pids = place.pids()

    assert stack.down() is True
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert [report["broker"] for report in place.reports("stopped")] == [True] * len(NAMES)
    assert sorted(path.name for path in place.runtime.iterdir()) == ["lock", "workers"]
    assert (stack.status().state, stack.status().processes) == ("stopped", ())
    assert stack.down() is False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the supervisor adopt orphans")
def test_kills_what_does_not_stop_and_what_it_left_behind(place: Place) -> None:
    stack = place.stack({"agents": "stubborn"})
    stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    report = next(report for report in place.reports("started") if report["name"] == "agents")
    assert _is_alive(report["daemon"])

    stack.down()
    assert not _is_alive(report["pid"])
    assert not _is_alive(report["daemon"])


def test_keeps_data_and_password_over_a_restart(place: Place) -> None:
    stack = place.stack()
    first = stack.ensure()
    with client(first) as store:
        store.set("kept", "yes")
    stack.down()
    second = stack.ensure()
    with client(second) as store:
        assert store.get("kept") == "yes"
    assert second.redis_url == first.redis_url


def test_stays_up_while_swarms_are_unfinished(place: Place) -> None:
    stack = place.stack(stack_idle_seconds=0.2)
    with client(stack.ensure()) as store:
        store.sadd("swarmq:active", "k3x9qm2p4t")
        with pytest.raises(UsageError, match=r"1 unfinished swarm.*--force"):
            stack.down()
        time.sleep(0.6)  # three idle times: that nothing happens can only be seen by waiting
        assert stack.status().running
        store.srem("swarmq:active", "k3x9qm2p4t")
    until(lambda: not stack.status().processes)
    assert (stack.status().state, stack.status().reason) == ("stopped", "idle")


def test_a_touch_keeps_it_from_idling(place: Place) -> None:
    stack = place.stack(stack_idle_seconds=0.5)
    stack.ensure()
    for _ in range(10):
        stack.touch()
        time.sleep(0.1)
        assert stack.status().running
    until(lambda: stack.status().state == "stopped")


def test_restarts_what_dies(place: Place) -> None:
    stack = place.stack()
    info = stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    with client(info) as store:
        store.set("kept", "yes")
    old = {name: place.pid(name) for name in ("agents", "valkey")}
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)

    def restarted(name: str) -> ProcessStatus | None:
        found = [process for process in stack.status().processes if process.name == name]
        return found[0] if found and found[0].pid != old[name] else None

    assert until(lambda: restarted("agents")).restarts == 1
    assert until(lambda: restarted("valkey")).restarts == 1

    def kept() -> str | None:
        try:
            with client(info) as store:
                return str(store.get("kept"))
        except redis.ConnectionError:  # not yet listening
            return None

    assert until(kept) == "yes"


def test_gives_up_with_the_reason(place: Place) -> None:
    stack = place.stack({"integrate": "crash"})
    stack.ensure()
    until(lambda: stack.status().state == "failed" and not stack.status().processes)
    expected = r"integrate ended at once 3 times \(exit code 1\): .*no module named Bogus.*integrate\.log"
    with pytest.raises(EnvironmentFault, match=expected) as failure:
        stack.wait_ready(WAIT_SECONDS)
    assert "\n" not in str(failure.value)
    assert place.stack().ensure().started  # and the next command tries again


def test_says_why_valkey_does_not_start(place: Place) -> None:
    stack = place.stack()
    stack.ensure()
    stack.down()
    manifest = place.state / "stack" / "valkey" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("this is no manifest\n")
    with pytest.raises(EnvironmentFault, match=r"Valkey ended at once: .*manifest.*valkey\.log") as failure:
        stack.ensure()
    assert "\n" not in str(failure.value)
    assert stack.status().processes == ()


def test_guard_cleans_up_after_a_killed_supervisor(place: Place) -> None:
    stack = place.stack({"agents": "stubborn"})
    stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    until(lambda: len(place.reports("started")) == len(NAMES))
    pids, supervisor = place.pids(), place.record().supervisor
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)

    info = place.stack().ensure()  # waits for the guard, and starts anew
    assert info.started
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert {report["broker"] for report in place.reports("stopped")} == {True}
    for report in place.reports("started"):
        if report["daemon"]:  # re-parented to init: found by nobody but the worker that now owns the branch
            os.kill(report["daemon"], signal.SIGKILL)


def test_a_killed_guard_and_supervisor_are_cleaned_up_by_the_next_client(place: Place) -> None:
    stack = place.stack()
    stack.ensure()
    stack.wait_ready(WAIT_SECONDS)
    pids, record = place.pids(), place.record()
    for head in (record.guard, record.supervisor):
        assert head is not None
        os.kill(head.pid, signal.SIGKILL)
    until(lambda: stack.status().state == "failed")
    assert stack.status().reason == "the supervisor was killed"

    assert stack.ensure().started
    assert [pid for pid in pids if _is_alive(pid)] == []


def test_a_recorded_pid_that_is_a_strangers_now_is_left_alone(place: Place) -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        stack = place.stack()
        stack.ensure()
        stack.down()
        old = ProcessRecord("agents", stranger.pid, time.time() - 3600, "agents.log")
        path = place.state / "stack" / "stack.json"
        StackRecord("running", str(place.runtime), supervisor=old, processes=(old,)).write(path)
        assert stack.ensure().started
        assert stack.down()
        assert stranger.poll() is None
        known = describe("agents", stranger.pid, Path("agents.log"))
        assert find(known) is not None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_later_clients_key_reaches_the_workers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first")
    stack = place.stack()
    info = stack.ensure()
    until(lambda: len(place.reports("started")) == len(NAMES))
    monkeypatch.delenv("OPENAI_API_KEY")
    assert not place.stack().ensure(bring_variables=True).started
    assert len(place.reports("stopped")) == 0  # nothing new to know: nobody is disturbed

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-second")
    assert place.stack().ensure().changed == ()
    assert len(place.reports("stopped")) == 0  # whoever only looks does not disturb anybody either
    assert place.stack().ensure(bring_variables=True).notice == "workers restarted: ANTHROPIC_API_KEY changed"
    assert len(place.reports("stopped")) == len(NAMES)  # answered only when the old workers are gone
    place.stack().wait_ready(WAIT_SECONDS)
    until(lambda: len(place.reports("started")) == 2 * len(NAMES))
    keys = place.reports("started")[-1]["keys"]
    assert keys == {"OPENAI_API_KEY": "sk-first", "ANTHROPIC_API_KEY": "sk-second"}
    assert {process.restarts for process in place.record().processes} == {0, 1}
    assert "sk-" not in str(psutil.Process(place.pid("valkey")).environ())
    with client(info) as store:
        assert store.ping()


def test_found_by_its_state_directory(place: Place) -> None:
    """A login session and a cron job of one user have different runtime directories, and share the stack."""
    info = place.stack().ensure()
    other = place.stack(runtime_dir=place.root / "elsewhere").ensure()
    assert not other.started
    assert other.redis_url == info.redis_url
    assert not (place.root / "elsewhere").exists()


def test_starts_anew_where_the_runtime_directory_was_removed(place: Place) -> None:
    stack = place.stack(stack_idle_seconds=2)  # it looks every quarter of that
    stack.ensure()
    shutil.rmtree(place.runtime)
    info = stack.ensure()
    assert info.started
    with client(info) as store:
        assert store.ping()


def test_a_caller_that_makes_no_sense_does_no_harm(place: Place) -> None:
    stack = place.stack(endpoints={"local": {"base_url": "http://127.0.0.1:8000"}})
    info = stack.ensure()
    for variables in ({"SWARMQ_ENDPOINTS": "{"}, {"SWARMQ_ENDPOINTS": "[1]"}, {"SWARMQ_ENDPOINTS": 1}):
        assert call(info.runtime_dir / "control.sock", variables, WAIT_SECONDS) is None  # type: ignore[arg-type]
    assert not stack.ensure().started


def test_two_state_directories_need_two_runtime_directories(place: Place) -> None:
    place.stack().ensure()
    with pytest.raises(EnvironmentFault, match=r"the stack of .*/state runs there; .*SWARMQ_RUNTIME_DIR"):
        place.stack(state_dir=place.root / "second").ensure()
    assert place.stack().status().running


def test_works_in_a_directory_with_odd_characters(place: Place) -> None:
    place.state, place.runtime = place.root / 'my "state" #1', place.root / "a b%20#?é"
    stack = place.stack()
    with client(stack.ensure()) as store:
        assert store.ping()
    stack.wait_ready(WAIT_SECONDS)
    until(lambda: len(place.reports("started")) == len(NAMES))
    stack.down()
    assert {report["broker"] for report in place.reports("stopped")} == {True}


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
