"""The live view of a swarm on a terminal. It draws at most four times a second, and only what changed."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from swarmq.cli.progress import BranchRow, Progress
from swarmq.cli.render import STYLES, console, count, duration, one_line
from swarmq.models.events import Event

REFRESH_SECONDS = 0.25
FRAME_LINES = 12
"""Lines of the view besides the branches' rows: header, column heads, recent events, room for the prompt."""


class LiveView:
    """Redraws from an asyncio task of its own, so that a burst of events costs one drawing."""

    def __init__(self, swarm_id: str) -> None:
        self.progress = Progress(swarm_id)
        self._console = console(sys.stderr)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False, transient=False
        )
        self._changed = True
        self._drawn_second = -1

    async def __aenter__(self) -> Self:
        self._live.start()
        self._drawing = asyncio.create_task(self._draw_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drawing.cancel()
        self._live.update(self.render(), refresh=True)
        self._live.stop()

    def see(self, event: Event) -> None:
        self.progress.apply(event)
        self._changed = True

    async def _draw_on(self) -> None:
        while True:
            second = int(time.monotonic())
            if self._changed or second != self._drawn_second:
                self._changed, self._drawn_second = False, second
                self._live.update(self.render(), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)

    def render(self) -> RenderableType:
        """Header, branches, recent events; never taller than the terminal."""
        progress, width = self.progress, self._console.width
        recent = [Text(one_line(text, width), style="dim") for text in progress.recent]
        parts: list[RenderableType] = [header(progress, time.time())]
        if progress.task:
            parts.append(Text(one_line(progress.task, width), style="dim"))
        if progress.branches:
            parts.append(branches(progress, max(3, self._console.height - FRAME_LINES), width))
        return Group(*parts, *recent)


def header(progress: Progress, now: float) -> Text:
    """Id, state, stage, time, steps and tokens on one line."""
    parts = []
    if progress.stage >= 0 and not progress.finished_at:
        parts.append(f"stage {progress.stage + 1} of {max(progress.stages, progress.stage + 1)}")
    if progress.started_at:
        parts.append(duration(max(0.0, (progress.finished_at or now) - progress.started_at)))
    parts += [count(progress.steps, "step"), count(progress.tokens, "token")]
    text = Text(f"{progress.swarm_id}  ", style="bold")
    text.append(progress.state, style=STYLES.get(progress.state, ""))
    text.append("  " + " · ".join(parts), style="not bold")
    return text


def branches(progress: Progress, most: int, width: int) -> RenderableType:
    """A row for each branch; where there are too many, those that move."""
    rows = list(progress.branches.values())
    hidden: list[BranchRow] = []
    if len(rows) > most:
        ordered = sorted(rows, key=lambda row: row.rank)
        hidden = ordered[most:]
        shown = {row.id for row in ordered[:most]}
        rows = [row for row in rows if row.id in shown]
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("branch", no_wrap=True, overflow="ellipsis", max_width=max(16, width // 3))
    table.add_column("state", no_wrap=True, min_width=9)  # as wide as most states, so that columns stand still
    table.add_column("steps", justify="right", min_width=5)
    table.add_column("tokens", justify="right", min_width=9)
    table.add_column("doing", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        state = Text(row.state, style=STYLES.get(row.state, "dim"))
        doing = Text(one_line(row.doing, width))
        table.add_row(Text(one_line(row.id)), state, f"{row.steps}", f"{row.tokens:,}", doing)
    if not hidden:
        return table
    moving = sum(row.rank < 2 for row in hidden)
    return Group(table, Text(f"… and {len(hidden)} more ({moving} of them running or queued)", style="dim"))
