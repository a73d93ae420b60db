"""What tasks are given instead of a broker and of models, where a test runs them itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agent_fakes import FakeModel, Turn

from swarmq.providers.prices import FREE, Price


class Sent:
    """A dispatcher that keeps what would be published."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        async def send(*args: Any, **_: Any) -> None:
            if name not in ("branches", "terminate") or args[-1]:
                self.messages.append((name, *args))

        return send

    def take(self) -> list[tuple[Any, ...]]:
        taken, self.messages = self.messages, []
        return taken


class OneModel:
    """The registry of models, with one of them."""

    def __init__(self, *turns: Turn) -> None:
        self.model = FakeModel(*turns)

    async def open(self, _: str) -> FakeModel:
        return self.model

    def check(self, _: str) -> None:
        return

    def price(self, _: str) -> Price:
        return FREE
