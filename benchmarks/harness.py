"""A fleet for measuring: Valkey, a model server and workers as processes of their own, in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from swarmq.devstack.valkey import find_binary
from swarmq.settings import Settings, load_settings

WAIT_SECONDS = 30.0
GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost")


@dataclass(frozen=True)
class Fleet:
    root: Path
    repo: Path
    settings: Settings
    agents: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU of the agents worker so far."""
        times = self.agents.cpu_times()
        return float(times.user + times.system)

    def peak_rss_mb(self) -> float:
        status = Path(f"/proc/{self.agents.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextlib.contextmanager
def running_fleet(
    conversations: list[dict[str, Any]],
    latency_ms: int,
    files: int = 15,
    agents_workers: int = 1,
    variables: Mapping[str, str] | None = None,
    pool: str = "agents",
) -> Iterator[Fleet]:
    """Workers for all queues and a model server with that script; rate caps lifted. ``variables`` are settings."""
    root = Path(tempfile.mkdtemp(prefix="swarmq-bench-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        repo = _repository(root / "repo", files)
        script = root / "script.yaml"
        script.write_text(yaml.safe_dump({"latency_ms": latency_ms, "conversations": conversations}))
        password, socket = secrets.token_hex(8), root / "valkey.sock"
        config = root / "valkey.conf"
        config.write_text(f'port 0\nunixsocket {socket}\nrequirepass {password}\ndir {root}\nappendonly yes\nsave ""\n')
        stack.enter_context(_running([str(find_binary()), str(config)], {}))
        server = [sys.executable, "-m", "swarmq.testing.server", str(script), "--port-file", str(root / "port")]
        stack.enter_context(_running(server, {}))
        wait_for(lambda: (root / "port").exists() and socket.exists())
        environment = {
            "SWARMQ_REDIS_URL": f"unix://:{password}@{socket}?db=0",
            "SWARMQ_STATE_DIR": str(root / "state"),
            "SWARMQ_RUNTIME_DIR": str(root / "run"),
            "SWARMQ_MODEL": "bench:scripted",
            "SWARMQ_ENDPOINTS__BENCH__BASE_URL": f"http://127.0.0.1:{(root / 'port').read_text().strip()}/v1",
            "SWARMQ_ENDPOINTS__BENCH__MAX_CONCURRENCY": "10000",
            "SWARMQ_ENDPOINTS__BENCH__INITIAL_CONCURRENCY": "10000",
            "SWARMQ_AGENTS_CONCURRENCY": "1000",
            "SWARMQ_CALLS_PER_WORKER": "1000",
            **(variables or {}),
        }
        os.environ.update(environment)
        queues = ["control", "integrate", *["agents"] * agents_workers]
        workers = [stack.enter_context(_running(_worker(queue, pool), environment)) for queue in queues]
        wait_for(lambda: len(list((root / "run" / "workers").glob("*.json"))) == len(workers))
        yield Fleet(root, repo, load_settings(), workers[-1])


def _worker(queue: str, pool: str) -> list[str]:
    """``pool`` is that of the agents; prefork with as many children as a small machine has."""
    command = [sys.executable, "-m", "swarmq", "worker", "--queue", queue]
    return [*command, "--pool", pool, "--concurrency", "2"] if queue == "agents" and pool != "agents" else command


def _repository(path: Path, files: int) -> Path:
    """Small source files, of which each tool call reads one."""
    (path / "src").mkdir(parents=True)
    for number in range(files):
        body = "".join(f"    total += {line}\n" for line in range(20))
        (path / "src" / f"f{number}.py").write_text(f"def f{number}(total):\n{body}    return total\n")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "start")):
        subprocess.run([*GIT, *command], cwd=path, check=True)
    return path


def reading(match: str, calls: int, files: int = 15) -> dict[str, Any]:
    """A conversation that reads one small file in each of its calls, then answers."""
    turns: list[dict[str, Any]] = [
        {"tool_calls": [{"name": "read", "arguments": {"file_path": f"src/f{number % files}.py"}}]}
        for number in range(calls)
    ]
    return {"match": match, "turns": [*turns, {"text": "All read."}]}


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit("the fleet did not start in time")
        time.sleep(0.02)


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
