"""``swarmq logs``: what the embedded stack's processes wrote, merged by time."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import plain, write
from swarmq.cli.session import AsJson, SomeBranch, connected, end, find_branch, wait_for

app = command_app()

POLL_SECONDS = 0.2
LEVELS = ("debug", "info", "warning", "error", "critical")
_SHOWN_APART = {"timestamp", "level", "event", "logger", "swarm", "branch", "process"}


@app.command()
def logs(
    swarm_id: Annotated[str | None, typer.Argument(metavar="ID", help="Only lines of this swarm.")] = None,
    branch: SomeBranch = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines.")] = None,
    level: Annotated[str, typer.Option(metavar="|".join(LEVELS), help="Least level to print.")] = "debug",
    as_json: AsJson = False,
) -> None:
    """Print the logs of the embedded stack's workers."""
    from swarmq import devstack
    from swarmq.errors import UsageError
    from swarmq.settings import load_settings

    settings = load_settings()
    if settings.broker() is not None:
        raise UsageError(
            "the workers are not ours: their logs are where they run (journalctl, kubectl logs), JSON lines with the"
            " keys swarm and branch"
        )
    if level not in LEVELS:
        raise UsageError(f"--level {level}: choose one of {', '.join(LEVELS)}")
    directory = devstack.status(settings).log_dir
    wanted = wait_for(_resolve(swarm_id, branch)) if swarm_id else {}
    files = dict.fromkeys(sorted(directory.glob("*.log*")), 0) if directory.is_dir() else {}
    lines = [line for line in merge(files) if _matches(line, wanted, level)]
    for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
        _print(line, as_json)
    if not follow:
        return
    try:
        for line in _new_lines(directory, files):
            if _matches(line, wanted, level):
                _print(line, as_json)
                sys.stdout.flush()
    except KeyboardInterrupt:
        end(ExitCode.INTERRUPTED)


async def _resolve(swarm_id: str, branch: str | None) -> dict[str, str]:
    """What a line of that swarm, and of that branch where one is named, has in it."""
    async with connected() as client:
        handle = await client.get(swarm_id)
        if branch is None:
            return {"swarm": handle.id}
        return {"swarm": handle.id, "branch": (await find_branch(handle, branch)).spec.id}


def merge(offsets: dict[Path, int]) -> Iterator[dict[str, Any]]:
    """All complete lines behind the offsets, which are moved on, in the order of their times."""
    read = [list(_read(path, offsets)) for path in offsets]
    return heapq.merge(*read, key=lambda line: str(line.get("timestamp", "")))


def _read(path: Path, offsets: dict[Path, int]) -> Iterator[dict[str, Any]]:
    """A line that is no JSON (a traceback, Valkey's own words) keeps the time of the line before it."""
    last = ""
    with path.open("rb") as file:
        if path.stat().st_size < offsets[path]:  # the file was set aside and begun again
            offsets[path] = 0
        file.seek(offsets[path])
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            offsets[path] += len(raw)
            if raw.isspace():
                continue
            line = parse(raw.decode(errors="replace").rstrip("\n"), last)
            last = str(line.get("timestamp", last))
            yield {**line, "process": path.name.partition(".")[0]}


def parse(text: str, timestamp: str) -> dict[str, Any]:
    """A log line as its fields."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"timestamp": timestamp, "level": "info", "event": text}


def _new_lines(directory: Path, offsets: dict[Path, int]) -> Iterable[dict[str, Any]]:
    while True:
        for path in directory.glob("*.log"):
            offsets.setdefault(path, 0)
        yield from merge(offsets)
        time.sleep(POLL_SECONDS)


def _matches(line: dict[str, Any], wanted: dict[str, str], level: str) -> bool:
    rank = LEVELS.index(line["level"]) if line.get("level") in LEVELS else len(LEVELS)
    if rank < LEVELS.index(level):
        return False
    return all(line.get(key) == value for key, value in wanted.items())


def _print(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        return
    where = "/".join(str(line[key]) for key in ("swarm", "branch") if line.get(key))
    extra = " ".join(f"{key}={value}" for key, value in line.items() if key not in _SHOWN_APART)
    parts = (
        line.get("timestamp", ""),
        line.get("level", ""),
        line.get("process", ""),
        where,
        line.get("event", ""),
        extra,
    )
    write(plain("  ".join(str(part) for part in parts if part)))
