"""What a step costs of our own work: the same at step 400 as at step 10."""

from __future__ import annotations

import sys
from itertools import pairwise
from statistics import median
from types import FrameType
from typing import Any

from agent_fakes import FakeCheckpoint, FakeJournal, FakeModel, FakeTime, FakeToolbox, assignment, call, says

from swarmq.agent.loop import run_agent
from swarmq.models.messages import Completion, Usage

STEPS = 420


async def test_a_step_costs_the_same_late_as_early() -> None:
    calls = 0
    at_step: list[int] = []

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    async def answer() -> Completion:
        at_step.append(calls)
        usage = Usage(input_tokens=50 * len(at_step), output_tokens=10)
        return says("Looking.", call("read", f"c{len(at_step)}"), usage=usage)

    model = FakeModel(*[answer] * STEPS, says("Done."))
    sys.setprofile(count)
    try:
        result = await run_agent(
            assignment(max_steps_per_subagent=1000),
            model,
            FakeToolbox(),
            FakeJournal(),
            FakeCheckpoint(),
            FakeTime().clock(),
        )
    finally:
        sys.setprofile(None)
    assert result.steps == STEPS + 1
    costs = [after - before for before, after in pairwise(at_step)]
    # Medians: a garbage collection that falls into a step runs the callbacks of others.
    assert median(costs[10:30]) == median(costs[390:410])
    conversation = model.conversations[0]
    assert (conversation.replaced, conversation.appended) == (0, 2 + 2 * STEPS + 1)
