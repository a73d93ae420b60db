"""Following a swarm to its end, and what is printed then. Shared by run, watch, retry and demo."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

from swarmq.cli.exits import ExitCode, of_result
from swarmq.cli.render import console, count, duration, emit_json, is_terminal, note, one_line, plain, usd, write
from swarmq.errors import NotFoundError

if TYPE_CHECKING:
    from swarmq.client import AsyncSwarmHandle
    from swarmq.models.events import Event
    from swarmq.models.swarm import SwarmResult


class Watcher(Protocol):
    """Shows events while they come."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...
    def see(self, event: Event) -> None: ...


class LineWatcher:
    """One line an event on stderr, for logs and pipes."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def see(self, event: Event) -> None:
        from swarmq.cli.lines import line

        note(line(event))


class JsonWatcher(LineWatcher):
    """NDJSON on stdout."""

    def see(self, event: Event) -> None:
        emit_json(event, line=True)


def watcher(swarm_id: str, *, events: bool) -> Watcher:
    """How progress is shown: NDJSON where asked for, a live view on a terminal, else lines."""
    if events:
        return JsonWatcher()
    if not is_terminal(sys.stderr) or console(sys.stderr).is_dumb_terminal:
        return LineWatcher()
    from swarmq.cli.live import LiveView

    return LiveView(swarm_id)


async def follow(handle: AsyncSwarmHandle, *, events: bool = False) -> SwarmResult:
    """Show the swarm's events from its start until it ends; its result."""
    async with watcher(handle.id, events=events) as shown:
        async for event in handle.events():
            shown.see(event)
    result = (await handle.record()).result
    if result is None:
        raise NotFoundError(f"swarm {handle.id} ended, but its result is gone")
    return result


def print_result(result: SwarmResult, *, as_json: bool = False, events: bool = False) -> ExitCode:
    """The end of a swarm: the report (or JSON) on stdout, figures and what to do next on stderr; the exit code."""
    if as_json:
        emit_json(result)
    elif not events:
        write(plain((result.answer or result.report).rstrip("\n")))
    for line in closing(result):
        note(line)
    return of_result(result)


def closing(result: SwarmResult) -> list[str]:
    """How it went in one line, why not better, and what to do next."""
    stats, usage = result.stats, result.stats.usage
    done = sum(subtask.success for subtask in result.subtasks)
    tokens = usage.input_tokens + usage.output_tokens
    lines = [
        f"swarm {result.id} {result.state} in {duration(stats.wall_seconds)}: {done} of"
        f" {count(len(result.subtasks), 'subtask')}, {count(stats.total_steps, 'step')}, {count(tokens, 'token')}"
        + ("" if stats.cost_usd is None else f", {usd(stats.cost_usd)}")
    ]
    if result.error:
        lines.append(f"reason: {one_line(result.error, 500)}")
    if result.limit:
        flag = f"--{result.limit.replace('_', '-')}"
        lines.append(
            f"limit: {result.limit} ended it; go on with more: swarmq retry {result.id} --failed {flag} NUMBER"
        )
    if result.branch:
        lines.append(f"branch: {result.branch} ({(result.commit or '')[:10]})")
        into = "" if result.base_branch else " --into BRANCH"  # a detached HEAD is no branch that could move
        lines.append(f"look:   swarmq diff {result.id}    take it over: swarmq merge {result.id}{into}")
    if not result.success and result.subtasks:
        lines.append(f"again:  swarmq retry {result.id} --failed    details: swarmq show {result.id}")
    return lines


def come_back(swarm_id: str) -> str:
    """What Ctrl-C says while a swarm runs."""
    return (
        f"\ndetached; swarm {swarm_id} goes on.\n"
        f"  follow it: swarmq watch {swarm_id}\n"
        f"  stop it:   swarmq cancel {swarm_id}"
    )
