"""A gate whose every reply is lost once: what was executed is sent again, as after a connection that broke."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarmq.errors import SwarmqError
from swarmq.store.connection import Gate, Route
from swarmq.store.line import Line

T = TypeVar("T")


class RepeatingGate(Gate):
    """Executes everything twice and tells the second reply."""

    async def _insist(self, route: Route, send: Callable[[Line], Awaitable[T]]) -> T:
        with contextlib.suppress(SwarmqError):
            await super()._insist(route, send)
        return await super()._insist(route, send)
