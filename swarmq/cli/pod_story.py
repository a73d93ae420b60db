"""What is known of a branch's pod, from the events that tell of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swarmq.cli.render import ago, count, one_line
from swarmq.models.events import Event, EventType

MAX_LINES = 50
_UNFINISHED = ("Pending", "Running")


@dataclass(frozen=True)
class PodLine:
    """One thing that was told. ``at`` is when it was told last, in Unix seconds."""

    at: float
    notice: str
    reason: str = ""
    count: int = 1
    uid: str = ""


@dataclass(frozen=True)
class PodStory:
    """Name, node, phase and reason are those of the newest pod, as last seen; '' where they are not known.

    A pod that ran when its branch ended has no phase: it was removed, and nobody looked at it again.
    """

    name: str
    node: str
    phase: str
    reason: str
    pods: int
    """How many there were, one after the other."""
    notices: tuple[PodLine, ...]
    """The newest ones, oldest first; what was told again stands where it came first, and counts."""


def pod_story(events: Iterable[Event], branch_id: str, *, ended: bool) -> PodStory | None:
    """None where nothing was told of a pod of that branch. ``ended``: the branch has."""
    told = [event for event in events if event.type is EventType.BRANCH_POD and event.branch == branch_id]
    if not told:
        return None
    lines: dict[tuple[str, str], PodLine] = {}
    for event in told:
        line = _line(event)
        key = (line.uid, line.notice)
        lines[key] = replace(line, count=max(line.count, lines[key].count)) if key in lines else line
    newest = next((event.data for event in reversed(told) if event.data.get("uid")), {})
    phase = _text(newest, "phase")
    return PodStory(
        name=_text(newest, "pod"),
        node=_text(newest, "node"),
        phase="" if ended and phase in _UNFINISHED else phase,
        reason=_text(newest, "reason"),
        pods=len({line.uid for line in lines.values() if line.uid}),
        notices=tuple(lines.values())[-MAX_LINES:],
    )


def pod_pairs(story: PodStory) -> list[tuple[str, str]]:
    where = f" on {story.node}" if story.node else ""
    reason = f", {story.reason}" if story.reason else ""
    values = [("pod", f"{story.name or 'none yet'}{where}")]
    if story.phase:
        values.append(("pod's phase", f"{story.phase}{reason} (as last seen)"))
    if story.pods > 1:
        values.append(("pods so far", str(story.pods)))
    return values


def pod_rows(notices: Sequence[PodLine], now: float) -> list[tuple[str, str]]:
    """When, and what."""
    return [
        (ago(line.at, now), one_line(line.notice, 500) + (f" ({count(line.count, 'time')})" if line.count > 1 else ""))
        for line in notices
    ]


def _line(event: Event) -> PodLine:
    data = event.data
    times = data.get("count")
    known = times if isinstance(times, int) and times > 0 else 1
    return PodLine(event.at, _text(data, "notice"), _text(data, "reason"), known, _text(data, "uid"))


def _text(data: dict[str, Any], name: str) -> str:
    return str(data.get(name) or "")
