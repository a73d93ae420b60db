"""One model call with its retries: for the loop, the planner and the synthesis alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from swarmq.agent.timing import Clock
from swarmq.errors import ModelError
from swarmq.models.messages import Completion
from swarmq.models.options import SwarmOptions
from swarmq.providers.base import Conversation
from swarmq.providers.limiter import Caller
from swarmq.providers.retry import GiveUp, RetryPolicy


@dataclass(frozen=True)
class Patience:
    """How a call is made and how often it is tried again."""

    max_output_tokens: int
    temperature: float | None
    timeout_seconds: float
    policy: RetryPolicy

    @classmethod
    def of(cls, options: SwarmOptions) -> Patience:
        return cls(
            max_output_tokens=options.max_output_tokens,
            temperature=options.temperature,
            timeout_seconds=options.model_call_timeout_seconds,
            policy=RetryPolicy(max_retries=options.max_retries),
        )


Wait = Callable[[ModelError, int, float], Awaitable[None]]
"""Waits before a retry; is given the error, the number of the failed attempt (from 1) and the seconds to wait."""


def told_to(caller: Caller, clock: Clock) -> Wait:
    """Tells of the wait as of one for a permit: no call is under way, and in a pause the next one is not made."""

    async def wait(error: ModelError, attempt: int, wait_seconds: float) -> None:
        await caller.on_wait("", "retry")
        await clock.sleep(wait_seconds)
        await caller.on_waited(wait_seconds)

    return wait


def _no_deadline() -> float:
    return float("inf")


async def complete(
    conversation: Conversation,
    patience: Patience,
    clock: Clock,
    *,
    left_seconds: Callable[[], float] = _no_deadline,
    wait: Wait | None = None,
) -> Completion:
    """The model's answer. Raises ModelError when it cannot be had, with the reason for giving up.

    ``left_seconds`` is asked before each attempt, and may raise to end the waiting.
    """
    attempt = 0
    while True:
        timeout_seconds = min(patience.timeout_seconds, left_seconds())
        try:
            return await conversation.complete(
                max_output_tokens=patience.max_output_tokens,
                temperature=patience.temperature,
                timeout_seconds=timeout_seconds,
            )
        except ModelError as error:
            verdict = patience.policy.decide(error, attempt, clock.jitter())
            if isinstance(verdict, GiveUp):
                raise type(error)(verdict.reason, error.status, error.retry_after_seconds) from error
            attempt += 1
            if wait is None:
                await clock.sleep(verdict.wait_seconds)
            else:
                await wait(error, attempt, verdict.wait_seconds)
