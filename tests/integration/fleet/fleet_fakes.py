"""What tasks are given instead of a broker and of models, where a test runs them itself, and a repository for them."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent_fakes import FakeModel, Turn

from swarmq.providers.prices import FREE, Price


class Sent:
    """A dispatcher that keeps what would be published."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[bool]]:
        async def send(*args: Any, **_: Any) -> bool:
            if name not in ("branches", "terminate") or args[-1]:
                self.messages.append((name, *args))
            return True

        return send

    def take(self) -> list[tuple[Any, ...]]:
        taken, self.messages = self.messages, []
        return taken


class OneModel:
    """The registry of models, with one of them."""

    def __init__(self, *turns: Turn, model: FakeModel | None = None) -> None:
        self.model = model or FakeModel(*turns)

    async def open(self, _: str) -> FakeModel:
        return self.model

    def check(self, _: str) -> None:
        return

    def price(self, _: str) -> Price:
        return FREE


def git(path: Path, *arguments: str) -> str:
    """What git prints, without the last line end."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(path: Path, text: str = "a\n") -> Path:
    """A repository with one commit, whose only file ``a.txt`` has that text."""
    path.mkdir()
    (path / "a.txt").write_text(text)
    for command in (["init", "-qb", "main"], ["add", "-A"], ["commit", "-qm", "start"]):
        git(path, *command)
    return path
