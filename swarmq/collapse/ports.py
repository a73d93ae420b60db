"""What the controller needs from outside, as small protocols. The state of pods is ``swarmq.models.pods.PodStates``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Canceller(Protocol):
    """Stops branches whose records say so already."""

    async def stop(self, swarm_id: str, branch_ids: Sequence[str]) -> None:
        """Have their holders stop at once, wherever they run. What gets lost of it, the next heartbeats make good."""
        ...
