"""A model for the calls of a swarm that no branch makes (plan, synthesis): each is taken from its budgets first."""

from __future__ import annotations

from collections.abc import Sequence

from swarmq.agent.room import EXPECTED_OUTPUT_TOKENS
from swarmq.fleet.journal import reservation
from swarmq.fleet.runtime import Runtime
from swarmq.models.messages import Completion, Message, ToolSpec, Usage
from swarmq.providers.base import ChatModel, Conversation
from swarmq.providers.limiter import NOBODY, Caller

INSTRUCTION_TOKENS = 3_000
"""About what the instructions, the tool and the picture of the repository add to a planner's prompt."""


class LimitReached(Exception):
    """The swarm's budgets leave no room for the call; ``limit`` is the option."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"the swarm's {limit} leaves no room for the call")
        self.limit = limit


def expected_call(prompt_tokens: int) -> Usage:
    """What such a call is expected to use; its own prompt has ``prompt_tokens``."""
    return Usage(input_tokens=prompt_tokens + INSTRUCTION_TOKENS, output_tokens=EXPECTED_OUTPUT_TOKENS)


class PaidModel:
    """``model`` as the swarm's ``job`` (plan, finish_swarm) asks it. Its conversations raise LimitReached as well.

    No branch runs before the plan or after the last stage, so that there is nobody to wait for.
    """

    def __init__(
        self, model: ChatModel, runtime: Runtime, swarm_id: str, job: str, model_spec: str, prompt_tokens: int
    ) -> None:
        self._model, self._budgets = model, runtime.store.budgets
        self._swarm_id, self._job = swarm_id, job
        self._price = runtime.models.price(model_spec)
        self._expected = expected_call(prompt_tokens)

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def context_window_tokens(self) -> int:
        return self._model.context_window_tokens

    def conversation(self, tools: Sequence[ToolSpec], caller: Caller = NOBODY) -> Conversation:
        return _PaidConversation(self._model.conversation(tools, caller), self)

    async def reserve(self) -> None:
        expected = reservation(self._expected, self._price)
        reserved = await self._budgets.reserve(self._swarm_id, self._job, expected)
        if reserved.limit is not None:
            raise LimitReached(reserved.limit)

    async def settle(self, usage: Usage) -> None:
        used = usage != Usage()
        nano_usd = None if self._price is None and used else 0 if self._price is None else self._price.nano_usd(usage)
        await self._budgets.settle(self._swarm_id, self._job, usage, nano_usd)
        if used:  # the next call's prompt is this one's with its answer
            self._expected = Usage(input_tokens=usage.tokens, output_tokens=EXPECTED_OUTPUT_TOKENS)


class _PaidConversation:
    def __init__(self, conversation: Conversation, model: PaidModel) -> None:
        self._conversation, self._model = conversation, model

    def append(self, message: Message) -> None:
        self._conversation.append(message)

    def replace(self, messages: Sequence[Message]) -> None:
        self._conversation.replace(messages)

    async def complete(
        self, *, max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        await self._model.reserve()
        usage = Usage()
        try:
            completion = await self._conversation.complete(
                max_output_tokens=max_output_tokens, temperature=temperature, timeout_seconds=timeout_seconds
            )
            usage = completion.usage
        finally:
            await self._model.settle(usage)
        return completion

    async def aclose(self) -> None:
        await self._conversation.aclose()
