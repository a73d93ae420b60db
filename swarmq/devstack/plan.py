"""What the supervisor is asked to run; comes on its standard input, since it holds keys that no command line may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swarmq.devstack.layout import Layout


@dataclass(frozen=True)
class Backoff:
    """When to start again what died: ``first_seconds`` doubled each time, and never after too many quick deaths."""

    first_seconds: float = 0.2
    most_seconds: float = 5.0
    quick_seconds: float = 5.0
    quick_deaths: int = 5

    def wait_seconds(self, deaths: int) -> float:
        """The wait after the ``deaths``-th quick death in a row (0: it had lived long)."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** max(0, deaths - 1))


@dataclass(frozen=True)
class Plan:
    """``variables`` are added to the environment of the workers; ``locks`` are inherited descriptors to hold.

    ``delays_seconds``: which of the commands start how long after the others.
    """

    layout: Layout
    valkey: Path
    commands: Mapping[str, list[str]]
    variables: Mapping[str, str]
    locks: tuple[int, ...]
    idle_seconds: float
    grace_seconds: float
    delays_seconds: Mapping[str, float] = field(default_factory=dict)
    backoff: Backoff = Backoff()

    def encode(self) -> bytes:
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        found: dict[str, Any] = json.loads(data)
        layout = {name: Path(path) for name, path in found.pop("layout").items()}
        return cls(
            layout=Layout(**layout),
            valkey=Path(found.pop("valkey")),
            locks=tuple(found.pop("locks")),
            backoff=Backoff(**found.pop("backoff")),
            **found,
        )
