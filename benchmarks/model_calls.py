"""Own CPU per model call, against the scripted server in a process of its own.

    python benchmarks/model_calls.py [--dialect anthropic] [--conversations 100] [--calls 15] [--latency-ms 200]

Prints CPU per call of this process (adapter and httpx together) and of the server, for many short conversations at
once, and for one long conversation by the length of its transcript.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from swarmq.models.messages import Message, Role, ToolResult, ToolSpec, system, user
from swarmq.providers.base import Conversation
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, Settings

SYSTEM = "You are one agent of many. " * 150  # 4 kB, about what the real prompt has
TOOLS = [
    ToolSpec(
        name=name,
        description=f"The tool {name}. " * 20,
        parameters={"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
    )
    for name in ("read", "write", "edit", "multiedit", "patch", "list", "glob", "grep", "bash", "swarm_share")
]
RESULT = "a line of a file that was read\n" * 65  # 2 kB


async def step(conversation: Conversation) -> None:
    completion = await conversation.complete(max_output_tokens=8192, temperature=None, timeout_seconds=60)
    conversation.append(completion.message)
    results = tuple(
        ToolResult(call_id=call.id, name=call.name, content=RESULT) for call in completion.message.tool_calls
    )
    conversation.append(Message(role=Role.TOOL, parts=results))


async def short(models: Models, server: psutil.Process, conversations: int, calls: int) -> None:
    model = await models.open("bench:model")

    async def run(number: int) -> None:
        conversation = model.conversation(TOOLS)
        conversation.append(system(SYSTEM))
        conversation.append(user(f"many: do the part {number}"))
        for _ in range(calls):
            await step(conversation)
        await conversation.aclose()

    server_cpu, cpu, wall = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(conversations)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    server_cpu = sum(server.cpu_times()[:2]) - server_cpu
    total = conversations * calls
    rate = total / wall
    print(f"{conversations} conversations x {calls} calls: {wall:.2f} s, {rate:.0f} calls/s")
    print(f"  own CPU {cpu / total * 1000:.2f} ms a call; server {server_cpu / total * 1000:.2f} ms a call")
    print(f"  server used {server_cpu / wall:.0%} of a core")


async def long(models: Models, marks: tuple[int, ...]) -> None:
    model = await models.open("bench:model")
    conversation = model.conversation(TOOLS)
    conversation.append(system(SYSTEM))
    conversation.append(user("long: do it all"))
    done = 0
    for mark in marks:
        while done < mark:
            await step(conversation)
            done += 1
        cpu = time.process_time()
        for _ in range(20):
            await step(conversation)
        done += 20
        kilobytes = done * (len(RESULT) + 400) // 1000
        print(f"  step {mark:4}: {(time.process_time() - cpu) / 20 * 1000:.2f} ms of CPU (about {kilobytes:,} kB sent)")
    await conversation.aclose()


async def bench(options: argparse.Namespace, url: str, server: psutil.Process) -> None:
    base_url = url if options.dialect == "anthropic" else f"{url}/v1"
    endpoint = EndpointSettings(dialect=options.dialect, base_url=base_url)
    models = Models(Settings(endpoints={"bench": endpoint}, calls_per_worker=10_000))
    await short(models, server, options.conversations, options.calls)
    print("one long conversation:")
    await long(models, (10, 100, 400, 800))
    await models.aclose()


def script(latency_ms: float) -> str:
    call = {"name": "read", "arguments": {"file_path": "src/package/module.py"}}
    turn = {"text": "Next I read this file.", "tool_calls": [call], "times": 100_000}
    conversations = [
        {"match": "many:", "turns": [turn]},
        {"match": "long:", "turns": [{**turn, "latency_ms": 0}]},
    ]
    return yaml.safe_dump({"latency_ms": latency_ms, "conversations": conversations})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialect", choices=("openai", "anthropic"), default="openai")
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--calls", type=int, default=15)
    parser.add_argument("--latency-ms", type=float, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.yaml"
        file.write_text(script(options.latency_ms))
        command = [sys.executable, "-m", "swarmq.testing.server", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                asyncio.run(bench(options, process.stdout.readline().strip(), psutil.Process(process.pid)))
            finally:
                os.kill(process.pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
