"""What trying a swarm again means for each of its subtasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from swarmq.models.base import Record


class Prospect(Record):
    """What a retry does with a subtask, as far as it can be known before it runs."""

    subtask_id: str
    how: Literal["cached", "continued", "anew"]
    step: int = Field(0, description="The step with which it continues; 0 where it does not.")
    reason: str
