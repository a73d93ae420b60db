"""swarmq: one large task, many agents, one merged branch.

The names below are the public API; everything else may change between minor versions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmq.client import AsyncClient, AsyncSwarmHandle
    from swarmq.errors import SwarmCancelled, SwarmqError
    from swarmq.fleet.canvas import swarm_signature
    from swarmq.models.options import Strategy, SwarmOptions
    from swarmq.models.plan import Kind, Plan, Subtask
    from swarmq.models.swarm import SwarmResult, SwarmState
    from swarmq.sync_client import Client, SwarmHandle

_WHERE = {
    "AsyncClient": "swarmq.client",
    "AsyncSwarmHandle": "swarmq.client",
    "Client": "swarmq.sync_client",
    "Kind": "swarmq.models.plan",
    "Plan": "swarmq.models.plan",
    "Strategy": "swarmq.models.options",
    "Subtask": "swarmq.models.plan",
    "SwarmCancelled": "swarmq.errors",
    "SwarmHandle": "swarmq.sync_client",
    "SwarmOptions": "swarmq.models.options",
    "SwarmResult": "swarmq.models.swarm",
    "SwarmState": "swarmq.models.swarm",
    "SwarmqError": "swarmq.errors",
    "swarm_signature": "swarmq.fleet.canvas",
}

__all__ = [
    "AsyncClient",
    "AsyncSwarmHandle",
    "Client",
    "Kind",
    "Plan",
    "Strategy",
    "Subtask",
    "SwarmCancelled",
    "SwarmHandle",
    "SwarmOptions",
    "SwarmResult",
    "SwarmState",
    "SwarmqError",
    "swarm_signature",
]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: ``swarmq --help`` and small producers do not pay for Celery."""
    if name not in _WHERE:
        raise AttributeError(f"module 'swarmq' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
