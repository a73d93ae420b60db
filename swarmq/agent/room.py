"""Room for a branch's next call in the budgets of its swarm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from swarmq.agent.assignment import Parked
from swarmq.agent.context import Context
from swarmq.agent.ports import Recorded
from swarmq.agent.timing import Clock, Deadlines
from swarmq.models.messages import Usage

EXPECTED_OUTPUT_TOKENS = 1_000
"""What an answer is expected to use: far above most, far below the default of ``max_output_tokens``."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 1.0


def expected_usage(context: Context, last: Usage, max_output_tokens: int) -> Usage:
    """What the next call will use, as far as can be told: the prompt as it stands, and a usual answer.

    An endpoint that caches has, by now, what it was sent the last time. Pure.
    """
    input_tokens = min(context.tokens, context.target)
    caches = last.cached_tokens + last.cache_write_tokens > 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=min(max_output_tokens, EXPECTED_OUTPUT_TOKENS),
        cached_tokens=min(last.input_tokens, input_tokens) if caches else 0,
    )


async def wait_for_room(
    recorded: Recorded, ask: Callable[[], Awaitable[Recorded]], clock: Clock, deadlines: Deadlines
) -> Recorded:
    """Until calls in flight have told what they used, and the step is reserved or a limit reached; no time-out runs.

    Raises Parked where the swarm is paused.
    """
    wait_seconds = FIRST_WAIT_SECONDS
    while recorded.hold is not None and recorded.cancel_reason is None:
        if recorded.hold == "paused":
            raise Parked
        deadlines.waited(wait_seconds)
        await clock.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        recorded = await ask()
    return recorded
