"""A whole fleet as processes: Valkey, three workers, beat, and a model server in the test's own process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from swarmq.background import BackgroundLoop
from swarmq.devstack.valkey import find_binary
from swarmq.settings import Settings, load_settings
from swarmq.testing import Script, ScriptedServer

T = TypeVar("T")

WAIT_SECONDS = 30.0
SCRIPT = Path(__file__).parent / "acceptance" / "script.yaml"
QUEUES = ("control", "integrate", "agents")


def until(look: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
    """What ``look`` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.01)
    return found


@dataclass
class FleetStack:
    """Started processes by name; all intervals tenfold shorter than the defaults."""

    root: Path
    url: str
    model_url: str
    server: ScriptedServer
    password: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """Added to the environment of processes that are started from now on."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    valkey: subprocess.Popen[bytes] = field(init=False)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "SWARMQ_REDIS_URL": self.url,
            "SWARMQ_STATE_DIR": str(self.root / "state"),
            "SWARMQ_RUNTIME_DIR": str(self.root / "run"),
            "SWARMQ_MODEL": "test:scripted",
            "SWARMQ_ENDPOINTS__TEST__BASE_URL": f"{self.model_url}/v1",
            "SWARMQ_ENDPOINTS__LIMITED__BASE_URL": f"{self.model_url}/v1",
            "SWARMQ_LEASE_SECONDS": "3",
            "SWARMQ_HEARTBEAT_SECONDS": "0.5",
            "SWARMQ_RECONCILE_SECONDS": "1",
            "SWARMQ_COLLAPSE_SECONDS": "0.5",
            "SWARMQ_QUEUE_PATIENCE_SECONDS": "3",
            "TEST_ONLY_API_KEY": "sk-must-not-leak",
            **self.variables,
        }

    def settings(self) -> Settings:
        return load_settings(
            state_dir=self.root / "state",
            runtime_dir=self.root / "run",
            model="test:scripted",
            endpoints={name: {"base_url": f"{self.model_url}/v1"} for name in ("test", "limited")},
            lease_seconds=3,
            heartbeat_seconds=0.5,
        )

    def start(self, name: str, *arguments: str, module: str = "swarmq", **variables: str) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.environment | variables,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_valkey(self) -> None:
        command = [str(find_binary()), str(self.root / "valkey.conf")]
        self.valkey = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: (self.root / "valkey.sock").exists() or None, "Valkey")

    def kill_valkey(self) -> None:
        """What was acknowledged is with the kernel, and so in the append-only file."""
        self.valkey.kill()
        self.valkey.wait(WAIT_SECONDS)
        (self.root / "valkey.sock").unlink()

    def start_worker(self, queue: str, name: str | None = None, **variables: str) -> None:
        self.start(name or queue, "worker", "--queue", queue, **variables)

    def await_worker(self, name: str) -> None:
        """Until that process takes messages."""
        workers, pid = self.root / "run" / "workers", self.processes[name].pid
        until(lambda: list(workers.glob(f"*-{pid}@*.json")) or None, f"worker {name}")

    def start_all(self) -> None:
        for queue in QUEUES:
            self.start_worker(queue)
        self.start("beat", "beat")
        for queue in QUEUES:
            self.await_worker(queue)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal to that process alone, and wait for its end; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(WAIT_SECONDS)

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(errors="replace")

    def requests(self, match: str) -> int:
        """Model calls that a conversation has taken so far."""
        return sum(request.match == match for request in self.server.requests)

    def run_cli(
        self, *arguments: str, timeout: float = WAIT_SECONDS, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "swarmq", *arguments],
            env=self.environment | variables,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def repository(self, name: str, files: dict[str, str] | None = None) -> Path:
        """A new repository of that name with one commit."""
        path = self.root / "repos" / name
        path.mkdir(parents=True)
        for file, text in (files or {"shared.txt": "first\nmiddle\nlast\n"}).items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(text)
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
            git(path, *command)
        return path


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *identity, *arguments], cwd=path, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def running_fleet(start: bool = True, script: Script | None = None, **variables: str) -> Iterator[FleetStack]:
    """Valkey, a model server that follows ``script`` (default: that of the acceptance tests), and all processes.

    ``variables`` are added to the environment of the processes.
    """
    root = Path(tempfile.mkdtemp(prefix="sqa-", dir="/tmp"))
    (root / "home").mkdir()
    background = BackgroundLoop("model-server")
    server = ScriptedServer(script or Script.load(SCRIPT))
    password, socket = secrets.token_hex(8), root / "valkey.sock"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(background.stop)
        model_url = background.run(server.start())
        stack.callback(lambda: background.run(server.aclose()))
        config = root / "valkey.conf"
        config.write_text(
            f"port 0\nunixsocket {socket}\nrequirepass {password}\ndir {root}\nappendonly yes\nappendfsync always\n"
            f'save ""\nmaxmemory-policy noeviction\ndatabases 16\n'
        )
        fleet = FleetStack(root, f"unix://:{password}@{socket}?db=0", model_url, server, password, variables)
        fleet.start_valkey()
        stack.callback(_stop_all, fleet)
        if start:
            fleet.start_all()
        yield fleet


def _stop_all(fleet: FleetStack) -> None:
    try:
        stop_workers(fleet)
    finally:
        fleet.valkey.terminate()
        fleet.valkey.wait(WAIT_SECONDS)


def stop_workers(fleet: FleetStack) -> None:
    for process in fleet.processes.values():
        process.terminate()
    for name, process in fleet.processes.items():
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not stop:\n{fleet.log(name)[-3000:]}") from None
