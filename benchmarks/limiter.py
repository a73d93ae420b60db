"""The fleet's rate limiter against a server that answers 429 above a rate it does not tell.

    python benchmarks/limiter.py [--rate 50] [--server bucket|window] [--window 1] [--retry-after]
                                 [--branches 100] [--processes 4] [--latency-ms 200] [--warm-up 30] [--seconds 40]

Branches of two swarms (all but two of them in the large one) make model calls as fast as they may, from several
processes with the real limiter, HTTP adapter and retry policy. Prints a JSON object: throughput against the hidden
rate, refused calls, calls per branch of both swarms, CPU and Redis commands per call (HTTP and waiting included); and
one with the cost of a permit that is had at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import redis

from swarmq.agent.model_call import Patience, complete
from swarmq.agent.timing import Clock
from swarmq.devstack.valkey import find_binary
from swarmq.errors import ModelError
from swarmq.models.limits import Rates, Report, Verdict, Wish
from swarmq.models.messages import user
from swarmq.models.options import SwarmOptions
from swarmq.providers.limiter import Caller
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, Settings
from swarmq.store.connection import Gate
from swarmq.store.store import Store

SMALL_SWARM = 2
ANSWER = json.dumps(
    {
        "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 5},
    }
).encode()
REFUSAL = b'{"error":{"message":"slow down","type":"rate_limit_error"}}'


class HiddenRate:
    """Takes ``rate`` calls a second: from a token bucket of one second's worth, or so many per fixed window."""

    def __init__(self, rate: float, kind: str, window_seconds: float) -> None:
        self.rate, self.kind, self.window_seconds = rate, kind, window_seconds
        self.left, self.at = rate * window_seconds, time.monotonic()

    def wait_seconds(self) -> float:
        """0 where the call is taken, else how long until one would be."""
        now, full = time.monotonic(), self.rate * self.window_seconds
        if self.kind == "bucket":
            self.left, self.at = min(full, self.left + (now - self.at) * self.rate), now
            wait = (1 - self.left) / self.rate
        else:
            if now - self.at >= self.window_seconds:
                self.at += (now - self.at) // self.window_seconds * self.window_seconds
                self.left = full
            wait = self.at + self.window_seconds - now if self.left < 1 else 0.0
        if wait <= 0:
            self.left -= 1
        return max(0.0, wait)


async def serve(options: argparse.Namespace) -> None:
    hidden = HiddenRate(options.rate, options.server, options.window)
    counts = {"taken": 0, "refused": 0}

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(size)
                if head.startswith(b"GET"):
                    writer.write(_response(200, json.dumps(counts).encode()))
                    continue
                wait = hidden.wait_seconds()
                if wait:
                    counts["refused"] += 1
                    told = f"retry-after: {-int(-wait // 1)}\r\n" if options.retry_after else ""
                    writer.write(_response(429, REFUSAL, told))
                else:
                    counts["taken"] += 1
                    await asyncio.sleep(options.latency_ms / 1000)
                    writer.write(_response(200, ANSWER))
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _response(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def client(options: argparse.Namespace) -> None:
    """One process's branches. Answers each line of its input with its counts so far."""
    settings = Settings(endpoints={"bench": EndpointSettings(base_url=options.url)})
    gate = Gate.open(options.redis)
    store = Store(gate)
    models = Models(settings, limiter=store.limiter)
    model = await models.open("bench:model")
    patience = Patience.of(SwarmOptions(max_retries=10))
    counts = {"large": 0, "small": 0, "large_waited_seconds": 0.0, "small_waited_seconds": 0.0, "gave_up": 0}

    async def branch(swarm: str) -> None:
        async def waited(seconds: float) -> None:
            counts[f"{swarm}_waited_seconds"] += seconds

        conversation = model.conversation([], Caller(swarm, on_waited=waited))
        conversation.append(user("go on"))
        while True:
            try:
                await complete(conversation, patience, Clock())
                counts[swarm] += 1
            except ModelError:
                counts["gave_up"] += 1

    branches = [asyncio.create_task(branch("small" if n < options.small else "large")) for n in range(options.mine)]
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({**counts, "cpu_seconds": time.process_time()}), flush=True)
    for task in branches:
        task.cancel()
    await asyncio.gather(*branches, return_exceptions=True)
    await store.limiter.aclose()
    await gate.aclose()


async def cost(url: str) -> dict[str, object]:
    """Own CPU and Redis time of a permit: asked for, had at once, reported."""
    gate = Gate.open(url)
    limiter, wish = Store(gate).limiter, Wish("cost", Rates(), "swarm", 1000)

    async def silent(reason: str) -> None:
        return

    async def calls(many: int) -> None:
        for _ in range(many):
            (await limiter.acquire(wish, silent)).release(Report(Verdict.ANSWERED, tokens=1000))

    found: dict[str, object] = {"what": "a permit without waiting"}
    for callers, many in ((1, 1500), (15, 150)):
        await calls(10)
        await limiter.aclose()
        await gate.call("CONFIG", "RESETSTAT")
        started = time.process_time()
        await asyncio.gather(*(calls(many) for _ in range(callers)))
        await limiter.aclose()
        cpu_seconds = time.process_time() - started
        stats = (await gate.call("INFO", "commandstats")).decode()
        scripts = dict(part.split("=") for part in stats.partition("cmdstat_evalsha:")[2].split("\r\n")[0].split(","))
        total = callers * many
        found[f"cpu_us_{callers}_callers"] = round(cpu_seconds / total * 1e6)
        found[f"redis_us_{callers}_callers"] = round(int(scripts["usec"]) / total)
        found[f"scripts_{callers}_callers"] = round(int(scripts["calls"]) / total, 2)
    await gate.aclose()
    return found


class Probe:
    """What all parts have counted so far."""

    def __init__(self, clients: list[subprocess.Popen[str]], port: int, server: redis.Redis) -> None:
        self._clients, self._port, self._redis = clients, port, server

    def look(self) -> dict[str, float]:
        found: dict[str, float] = {"at": time.monotonic()}
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/") as answer:
            found.update(json.load(answer))
        for process in self._clients:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            for name, value in json.loads(process.stdout.readline()).items():
                found[name] = found.get(name, 0) + value
        stats = self._redis.info("commandstats")
        sent = ("evalsha", "subscribe", "unsubscribe", "publish")
        for name in sent:
            found[name] = stats.get(f"cmdstat_{name}", {}).get("calls", 0)
        found["redis_seconds"] = stats.get("cmdstat_evalsha", {}).get("usec", 0) / 1e6
        return found


def measure(options: argparse.Namespace, probe: Probe) -> dict[str, object]:
    time.sleep(options.warm_up)
    before = probe.look()
    time.sleep(options.seconds)
    after = probe.look()
    delta = {name: after[name] - before[name] for name in after}
    calls = delta["taken"]
    small = options.branches - SMALL_SWARM
    return {
        "server": options.server,
        "window_seconds": options.window,
        "retry_after": options.retry_after,
        "hidden_rate": options.rate,
        "throughput_share": round(calls / delta["at"] / options.rate, 4),
        "refused_share": round(delta["refused"] / (calls + delta["refused"]), 4),
        "calls": calls,
        "gave_up": delta["gave_up"],
        "calls_per_branch_small": round(delta["small"] / SMALL_SWARM, 1),
        "calls_per_branch_large": round(delta["large"] / small, 1),
        "wait_ms_small": round(delta["small_waited_seconds"] / max(1, delta["small"]) * 1000),
        "wait_ms_large": round(delta["large_waited_seconds"] / max(1, delta["large"]) * 1000),
        "cpu_us_per_call": round(delta["cpu_seconds"] / calls * 1e6),
        "redis_us_per_call": round(delta["redis_seconds"] / calls * 1e6),
        "scripts_per_call": round(delta["evalsha"] / calls, 2),
        "refused_in_warm_up": before["refused"],
    }


def run(options: argparse.Namespace) -> dict[str, object]:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sqb-", dir="/tmp")))
        socket, password = root / "v.sock", secrets.token_hex(8)
        config = root / "valkey.conf"
        config.write_text(f'port 0\nunixsocket {socket}\nrequirepass {password}\ndir {root}\nsave ""\n')
        stack.enter_context(_running([str(find_binary()), str(config)]))
        while not socket.exists():
            time.sleep(0.01)
        print(json.dumps(asyncio.run(cost(f"unix://:{password}@{socket}?db=1"))), flush=True)
        me = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
        server = stack.enter_context(_running([*me, "--role", "server"]))
        assert server.stdout is not None
        port = int(server.stdout.readline())
        url = f"unix://:{password}@{socket}?db=0"
        clients = []
        for number in range(options.processes):
            mine = options.branches // options.processes
            small = 1 if number < SMALL_SWARM else 0
            given = ["--role", "client", "--mine", str(mine), "--small", str(small), "--redis", url]
            clients.append(stack.enter_context(_running([*me, *given, "--url", f"http://127.0.0.1:{port}/v1"])))
        probe = Probe(clients, port, redis.Redis(unix_socket_path=str(socket), password=password))
        return measure(options, probe)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--server", choices=("bucket", "window"), default="bucket")
    parser.add_argument("--window", type=float, default=1.0, help="seconds, of the bucket too")
    parser.add_argument("--retry-after", action="store_true")
    parser.add_argument("--branches", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--latency-ms", type=float, default=200)
    parser.add_argument("--warm-up", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=40)
    for hidden in ("--role", "--redis", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--mine", "--small"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "server":
        asyncio.run(serve(options))
    elif options.role == "client":
        asyncio.run(client(options))
    else:
        print(json.dumps(run(options)))


if __name__ == "__main__":
    main()
