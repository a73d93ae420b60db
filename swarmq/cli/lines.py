"""An event as one line for people. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from swarmq.cli.render import clock, count, duration, one_line
from swarmq.models.events import Event, EventType

LINE_CHARACTERS = 160
_JSON_HEAD = re.compile(r'^\{"\w+":\s*"?')
_JSON_SEAM = re.compile(r'"?,\s*"\w+":\s*"?')


def describe(event: Event) -> str:
    """What happened, without the time and the branch."""
    return one_line(_TEXTS[event.type](event.data), LINE_CHARACTERS)


def line(event: Event) -> str:
    """Time, branch and what happened."""
    return f"{clock(event.at)}  {event.branch or 'swarm':<24}  {describe(event)}"


def doing(event: Event) -> str | None:
    """What a branch is doing after this event; None where the event does not tell."""
    match event.type:
        case EventType.BRANCH_TOOL_CALL:
            return f"{event.data.get('tool', '')} {arguments(str(event.data.get('input', '')))}"
        case EventType.BRANCH_MESSAGE | EventType.BRANCH_OUTPUT | EventType.BRANCH_THINKING:
            return str(event.data.get("text", ""))
        case EventType.BRANCH_STEP:
            return None
        case EventType.BRANCH_STARTED:
            return "thinking"
        case EventType.VERIFY_STARTED | EventType.VERIFY_PASSED | EventType.VERIFY_FAILED if event.data.get("commit"):
            return None  # the merge queue's doing
    return describe(event)


def arguments(raw: str) -> str:
    """A tool call's arguments without their JSON: the values. Cut JSON loses its keys and line ends, by their looks."""
    try:
        values = json.loads(raw)
    except ValueError:
        return _JSON_SEAM.sub("  ", _JSON_HEAD.sub("", raw)).replace("\\n", " ")
    if not isinstance(values, dict):
        return raw
    return "  ".join(value if isinstance(value, str) else json.dumps(value) for value in values.values())


def amount(value: Any) -> int:
    """A count, given as a number or as the list of what was counted."""
    return len(value) if isinstance(value, list | tuple) else int(value or 0)


def _planned(data: dict[str, Any]) -> str:
    subtasks = data.get("subtasks") or []
    stages = len({subtask.get("stage") for subtask in subtasks})
    said = f"planned {count(len(subtasks), 'subtask')} in {count(stages, 'stage')}"
    return f"{said}; {data['note']}" if data.get("note") else said


def _stage_finished(data: dict[str, Any]) -> str:
    return (
        f"stage {data.get('stage')} finished in {duration(data.get('seconds') or 0)}: "
        f"{amount(data.get('succeeded'))} succeeded, {amount(data.get('failed'))} failed"
    )


def _started(data: dict[str, Any]) -> str:
    again = f", holder {data['delivery']}" if amount(data.get("delivery")) > 1 else ""
    return f"started on {data.get('worker', '?')}{again}"


def _step(data: dict[str, Any]) -> str:
    return (
        f"step {data.get('step')} · {data.get('input_tokens', 0):,} tokens in, {data.get('output_tokens', 0):,} out"
        f" · {duration(data.get('seconds') or 0)}"
    )


def _tool_call(data: dict[str, Any]) -> str:
    said = f"{data.get('tool')} {one_line(arguments(str(data.get('input', ''))), 80)}"
    return said if data.get("ok", True) else f"{said} → {one_line(str(data.get('output', '')), 70)}"


def _rate_limited(data: dict[str, Any]) -> str:
    return f"rate limited: waits for {data.get('endpoint', '?')} ({data.get('reason', '?')})"


def _finished(data: dict[str, Any]) -> str:
    said = f"{data.get('exit')} after {count(amount(data.get('steps')), 'step')}"
    return f"{said}: {data['error']}" if data.get("error") else said


def _observed(data: dict[str, Any]) -> str:
    checks = {True: "checks pass", False: "checks fail"}.get(data.get("checks"), "not checked")  # type: ignore[arg-type]
    problem = next(iter(data.get("problems") or [data.get("note")]), None)
    said = f"{count(amount(data.get('files')), 'file')} changed, {amount(data.get('changed_lines')):,} lines, {checks}"
    return f"{said}: {problem}" if problem else said


def _resumed(data: dict[str, Any]) -> str:
    source = f", continuing {data['continues']}" if data.get("continues") else ""
    return f"resumed at step {data.get('step')}{source}"


def _merged(data: dict[str, Any]) -> str:
    files = count(amount(data.get("files")), "file")
    return f"merged {files}, +{data.get('insertions', 0)} -{data.get('deletions', 0)}"


def _swarm_finished(data: dict[str, Any]) -> str:
    where = f": branch {data['branch']}" if data.get("branch") else ""
    why = f": {data['error']}" if data.get("error") else ""
    return f"ended: {data.get('state')}{where}{why}"


def _verifying(data: dict[str, Any]) -> str:
    where = " the merged tree" if data.get("commit") else ""
    return f"verifying{where}: {'; '.join(map(str, data.get('commands') or []))}"


def _verify_passed(data: dict[str, Any]) -> str:
    return f"{_verified(data)} passed in {duration(data.get('seconds') or 0)}{_put_back(data)}"


def _verify_failed(data: dict[str, Any]) -> str:
    told = f"; the agent is told, {data['round']} of {data.get('rounds')}" if data.get("round") else ""
    last = one_line(str(data.get("output", "")).strip().rpartition("\n")[2], 70)
    said = f" → {last}" if last else ""
    return f"{_verified(data)} {data.get('command')} {data.get('ending')}{told}{_put_back(data)}{said}"


def _verified(data: dict[str, Any]) -> str:
    return "verify of the merged tree:" if data.get("commit") else "verify:"


def _put_back(data: dict[str, Any]) -> str:
    changed = amount(data.get("changed"))
    return f"; it changed {count(changed, 'file')}, put back" if changed else ""


def _conflict(data: dict[str, Any]) -> str:
    return f"conflict in {', '.join(map(str, data.get('files') or []))}"


def _promoted(data: dict[str, Any]) -> str:
    return "wins its race: it passed verify" if data.get("by") == "verify" else "wins its race by its score"


_TEXTS: dict[EventType, Callable[[dict[str, Any]], str]] = {
    EventType.SWARM_STARTED: lambda data: f"started: {data.get('task', '')}",
    EventType.SWARM_PLANNED: _planned,
    EventType.SWARM_PAUSED: lambda data: f"paused: {data.get('reason', '')}",
    EventType.SWARM_RESUMED: lambda data: f"goes on after a pause of {duration(data.get('seconds') or 0)}",
    EventType.STAGE_STARTED: lambda data: (
        f"stage {data.get('stage')} started: {count(amount(data.get('branches')), 'branch')}"
    ),
    EventType.STAGE_FINISHED: _stage_finished,
    EventType.BRANCH_QUEUED: lambda _: "queued",
    EventType.BRANCH_STARTED: _started,
    EventType.BRANCH_STEP: _step,
    EventType.BRANCH_TOOL_CALL: _tool_call,
    EventType.BRANCH_MESSAGE: lambda data: f"says: {data.get('text', '')}",
    EventType.BRANCH_THINKING: lambda data: f"thinks: {data.get('text', '')}",
    EventType.BRANCH_OUTPUT: lambda data: f"answers: {data.get('text', '')}",
    EventType.BRANCH_ERROR: lambda data: f"error: {data.get('error', '')}",
    EventType.BRANCH_RETRY: lambda data: (
        f"retry {data.get('attempt')} in {duration(data.get('wait_seconds') or 0)}: {data.get('error', '')}"
    ),
    EventType.BRANCH_RATE_LIMITED: _rate_limited,
    EventType.BRANCH_OBSERVATION: _observed,
    EventType.BRANCH_KILLED: lambda data: f"stopped by collapse: {data.get('reason', '')}",
    EventType.BRANCH_FINISHED: _finished,
    EventType.BRANCH_CACHED: lambda data: f"taken from the cache ({data.get('source', '')})",
    EventType.BRANCH_WAITING: lambda data: f"waiting for equal work in {data.get('leader', '?')}",
    EventType.BRANCH_RESUMED: _resumed,
    EventType.BRANCH_ANEW: lambda data: f"starts anew, not from {data.get('source', '?')}: {data.get('reason', '')}",
    EventType.BRANCH_PARKED: lambda data: f"given back after {count(amount(data.get('step')), 'step')}: paused",
    EventType.BRANCH_POD: lambda data: f"pod: {data.get('notice', '')}",
    EventType.LEASE_LOST: lambda data: f"lease of {data.get('worker', '?')} lost",
    EventType.VERIFY_STARTED: _verifying,
    EventType.VERIFY_PASSED: _verify_passed,
    EventType.VERIFY_FAILED: _verify_failed,
    EventType.MERGED: _merged,
    EventType.PROMOTED: _promoted,
    EventType.CONFLICT: _conflict,
    EventType.RESOLVING: lambda data: f"its conflict goes to an agent, as {data.get('resolver', '?')}",
    EventType.REJECTED: lambda _: "not merged: the merged tree does not pass verify",
    EventType.SWARM_FINISHED: _swarm_finished,
}
