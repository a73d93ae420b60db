"""What pods cost the API of Kubernetes, and what following their logs costs a worker, on the double of the tests.

    scripts/uv run python benchmarks/pods_api.py --pods 100 --seconds 10 --megabytes 100

Pods are processes of this machine that print a line a second. Calls are counted by the client, and are the same on a
real cluster; times are those of the double, which runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from swarmq.kubernetes.cluster import Cluster
from swarmq.kubernetes.pods import PodRequest, PodRun, Pods
from swarmq.kubernetes.podspec import PodDefaults
from swarmq.settings import load_settings

TICK_SECONDS = 5


def serve(directory: str) -> None:
    """The double, until its standard input ends."""
    from kubernetes_double import KubernetesDouble

    double = KubernetesDouble.start(Path(directory))
    print(double.kubeconfig, flush=True)
    sys.stdin.read()
    double.close()


@contextmanager
def running_double() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="swarmq-bench-") as directory:
        command = [sys.executable, __file__, "--serve", directory]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield Path(process.stdout.readline().strip())
            process.communicate()


def request(branch: str) -> PodRequest:
    return PodRequest("bench", branch, branch, 0, 1, b"payload", deadline_seconds=3600, nonce="nonce")


def shell(cluster: Cluster, command: str) -> Pods:
    agent = {"name": "agent", "command": ["sh", "-ec", command]}
    return Pods(cluster, PodDefaults("bench:1", {"spec": {"containers": [agent]}}))


async def many(cluster: Cluster, pods_count: int, seconds: int) -> None:
    pods = shell(cluster, f"for i in $(seq {seconds}); do echo line $i; sleep 1; done; echo result")
    before, started, cpu = Counter(cluster.calls), time.monotonic(), time.process_time()
    running: list[PodRun] = []

    async def one(number: int) -> None:
        async with await pods.run(request(f"b{number}")) as run:
            running.append(run)
            lines = [line async for line in take_until_result(run)]
            assert len(lines) == seconds + 1, lines
            await run.end()
            await run.delete()

    work = asyncio.gather(*(one(number) for number in range(pods_count)))
    while len(running) < pods_count:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    settled = Counter(cluster.calls)
    await asyncio.sleep(min(TICK_SECONDS, seconds / 2))
    tick = Counter(cluster.calls) - settled
    await work
    calls = Counter(cluster.calls) - before
    print(f"{pods_count} pods, each {seconds} s of a line a second, in {time.monotonic() - started:.1f} s:")
    for call, count in sorted(calls.items()):
        print(f"  {call:24} {count:6}   {count / pods_count:.2f} a pod")
    print(f"  {'all':24} {calls.total():6}   {calls.total() / pods_count:.2f} a pod")
    print(f"  calls within {min(TICK_SECONDS, seconds / 2):g} s while all run: {dict(tick) or 0}")
    print(f"  CPU of the following process: {time.process_time() - cpu:.2f} s")
    await pods.aclose()


async def take_until_result(run: PodRun):  # type: ignore[no-untyped-def]
    async for line in run.lines():
        yield line
        if line == "result":
            return


async def large(cluster: Cluster, megabytes: int) -> None:
    program = f"for i in range({megabytes * 10_000}): print('x' * 99)"
    pods = shell(cluster, f'python -c "{program}"')
    peak, started, cpu, size = peak_mb(), time.monotonic(), time.process_time(), 0
    async with await pods.run(request("large")) as run:
        async for line in run.lines():
            size += len(line) + 1
        await run.delete()
    seconds, used = time.monotonic() - started, time.process_time() - cpu
    print(
        f"a log of {size / 1e6:.0f} MB: {seconds:.1f} s, {used:.1f} s of CPU, "
        f"peak memory {peak:.0f} -> {peak_mb():.0f} MB"
    )
    await pods.aclose()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with running_double() as kubeconfig:
        cluster = await Cluster.open(load_settings(kubeconfig=kubeconfig))
        print(f"memory with the client imported: {peak_mb():.0f} MB")
        await many(cluster, options.pods, options.seconds)
        await large(cluster, options.megabytes)
        await cluster.aclose()


if __name__ == "__main__":
    asyncio.run(main())
