"""Starting child processes, one at a time per event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def spawn(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: int, stderr: int
) -> asyncio.subprocess.Process:
    """A child in a session of its own, without input or terminal. Raises OSError where it cannot be started.

    Starting one holds the loop for 2 ms. A hundred agents that start theirs in the same moment would hold it for
    200 ms, so each waits for its turn and other work runs in between.
    """
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with turn:
        return await asyncio.create_subprocess_exec(
            *arguments,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
