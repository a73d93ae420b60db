"""A model behind an HTTP endpoint: a dialect, a connection for each conversation, and the endpoint's permits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from swarmq.errors import ModelError, PermanentModelError
from swarmq.models.messages import Completion, Message, ToolSpec
from swarmq.providers.base import Dialect, RequestBody
from swarmq.providers.transport import Channel


class HttpConversation:
    """Renders, posts, reads. Never two calls at once."""

    def __init__(self, dialect: Dialect, body: RequestBody, channel: Channel, permits: asyncio.Semaphore) -> None:
        self._dialect = dialect
        self._body = body
        self._channel = channel
        self._permits = permits

    def append(self, message: Message) -> None:
        self._body.append(message)

    def replace(self, messages: Sequence[Message]) -> None:
        self._body.replace(messages)

    async def complete(
        self, *, max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        """Waits for a permit of the endpoint first; the time-out starts with the call."""
        async with self._permits:
            try:
                answer = await self._post(max_output_tokens, temperature, timeout_seconds)
            except PermanentModelError as refusal:
                if not self._dialect.concede(refusal):
                    raise
                answer = await self._post(max_output_tokens, temperature, timeout_seconds)
        try:
            return self._dialect.completion(answer)
        except ModelError as error:
            raise self._channel.named(error) from None

    async def aclose(self) -> None:
        await self._channel.aclose()

    async def _post(self, max_output_tokens: int, temperature: float | None, timeout_seconds: float) -> bytes:
        return await self._channel.post(self._body.render(max_output_tokens, temperature), timeout_seconds)


class HttpModel:
    """Makes conversations. What one of them learns about the model (Dialect.concede) holds for all."""

    def __init__(
        self,
        name: str,
        context_window_tokens: int,
        dialect: Dialect,
        connect: Callable[[], Channel],
        permits: asyncio.Semaphore,
    ) -> None:
        self.name = name
        self.context_window_tokens = context_window_tokens
        self._dialect = dialect
        self._connect = connect
        self._permits = permits

    def conversation(self, tools: Sequence[ToolSpec]) -> HttpConversation:
        return HttpConversation(self._dialect, self._dialect.request(tools), self._connect(), self._permits)
