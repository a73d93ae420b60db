"""A race of four on this project's own repository: the first that passes verify stops the others, against none stopped.

    scripts/uv run python benchmarks/race.py

All four candidates change the same module. One is done after a few calls and passes; the others go on for long. Without
verify nobody can know who is right, so the race is decided when all have ended: that is what stopping early is compared
with. Tokens are those that the model server counted. Figures are printed as JSON lines, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Fleet, running_fleet

from swarmq import AsyncClient, Plan, Subtask

APPROACHES = ("The way of one.", "The way of two.", "The way of three.", "The way of four.")
FAST_CALLS, SLOW_CALLS = 6, 30
FILE = "swarmq/models/plan.py"
ADDED = 'def words(text: str) -> int:\\n    """How many words a text has."""\\n    return len(text.split())\\n'
CHECK = f"import ast; assert 'words' in [getattr(n, 'name', '') for n in ast.parse(open('{FILE}').read()).body]"
VERIFY = f'python3 -c "{CHECK}"'


def conversation(approach: str, calls: int) -> dict[str, Any]:
    """Reads, then writes the function, then answers."""
    turns: list[dict[str, Any]] = [
        {"tool_calls": [{"name": "read", "arguments": {"file_path": FILE, "offset": 1 + call, "limit": 60}}]}
        for call in range(calls - 2)
    ]
    append = {"name": "bash", "arguments": {"command": f"printf '\\n\\n{ADDED}' >> {FILE}"}}
    return {"match": approach, "turns": [*turns, {"tool_calls": [append]}, {"text": "The function is there."}]}


def script() -> list[dict[str, Any]]:
    fast, *slow = APPROACHES
    return [conversation(slow_one, SLOW_CALLS) for slow_one in slow] + [conversation(fast, FAST_CALLS)]


async def measure(fleet: Fleet, repo: Path, runs: int) -> None:
    subtask = Subtask(
        name="words", instruction="Add a function that counts words.", candidates=4, approaches=APPROACHES
    )
    async with AsyncClient(settings=fleet.settings) as client:
        for _ in range(runs):
            for label, options in (("first to pass", {"verify": VERIFY}), ("all to the end", {"collapse": "off"})):
                started = time.monotonic()
                handle = await client.submit(Plan(subtasks=(subtask,)), repo=repo, cache="bypass", **options)
                result = await handle.result(timeout=600)
                if not result.success:
                    raise SystemExit(f"the swarm failed: {result.report[:2000]}")
                usage = result.stats.usage
                branches = await handle.branches()
                print(
                    json.dumps(
                        {
                            "race": label,
                            "promoted": result.subtasks[0].branch_id,
                            "stopped": sum(b.outcome is not None and b.outcome.exit == "cancelled" for b in branches),
                            "seconds": round(time.monotonic() - started, 2),
                            "steps": sum(b.outcome.steps for b in branches if b.outcome is not None),
                            "tokens": usage.input_tokens + usage.output_tokens,
                        }
                    ),
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, default=300, help="of each model answer")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="swarmq-race-"))
    try:
        here = Path(__file__).resolve().parent.parent
        subprocess.run(["git", "clone", "-q", str(here), str(place / "repo")], check=True)
        with running_fleet(script(), given.latency_ms) as fleet:
            asyncio.run(measure(fleet, place / "repo", given.runs))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
