"""A model behind an HTTP endpoint: a dialect, a connection for each conversation, and the endpoint's permits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import ModelError, PermanentModelError
from swarmq.models.limits import Rates, Report, Verdict, Wish
from swarmq.models.messages import Completion, Message, ToolSpec
from swarmq.providers.base import Dialect, RequestBody
from swarmq.providers.limiter import NOBODY, Caller, Limiter, report_of
from swarmq.providers.transport import Channel

BYTES_PER_TOKEN = 3.5


@dataclass(frozen=True)
class Admission:
    """Who lets calls to an endpoint pass: the fleet's limiter, and this process's bound on calls that run or wait."""

    endpoint: str
    rates: Rates
    limiter: Limiter
    slots: asyncio.Semaphore


class HttpConversation:
    """Renders, posts, reads. Never two calls at once."""

    def __init__(
        self, dialect: Dialect, body: RequestBody, channel: Channel, admission: Admission, caller: Caller
    ) -> None:
        self._dialect = dialect
        self._body = body
        self._channel = channel
        self._admission = admission
        self._caller = caller

    def append(self, message: Message) -> None:
        self._body.append(message)

    def replace(self, messages: Sequence[Message]) -> None:
        self._body.replace(messages)

    async def complete(
        self, *, max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        """Waits for a permit of the endpoint first; the time-out starts with the call."""
        admission, body = self._admission, self._body.render(max_output_tokens, temperature)
        tokens = int(sum(map(len, body)) / BYTES_PER_TOKEN)
        wish = Wish(admission.endpoint, admission.rates, self._caller.swarm_id, tokens)
        async with self._slot() as slot_seconds:
            permit = await admission.limiter.acquire(wish, self._on_wait)
            report = Report(Verdict.FAILED)
            try:
                if waited_seconds := slot_seconds + permit.waited_seconds:
                    await self._caller.on_waited(waited_seconds)
                reached(CrashPoint.CALL_MADE)
                completion = await self._answer(body, max_output_tokens, temperature, timeout_seconds)
                counted = self._dialect.counted_tokens(completion.usage)
                report = Report(Verdict.ANSWERED, signs=self._channel.signs, tokens=counted)
            except ModelError as error:
                report = report_of(error, self._channel.signs)
                raise
            finally:
                permit.release(report)
        return completion

    async def aclose(self) -> None:
        await self._channel.aclose()

    async def _answer(
        self, body: Sequence[bytes], max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        try:
            answer = await self._channel.post(body, timeout_seconds)
        except PermanentModelError as refusal:
            if not self._dialect.concede(refusal):
                raise
            answer = await self._channel.post(self._body.render(max_output_tokens, temperature), timeout_seconds)
        try:
            return self._dialect.completion(answer)
        except ModelError as error:
            raise self._channel.named(error) from None

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[float]:
        """A place among this process's calls to the endpoint; gives the seconds that it was waited for."""
        slots, now, waited_seconds = self._admission.slots, asyncio.get_running_loop().time, 0.0
        if slots.locked():
            started = now()
            await self._on_wait("worker")
            await slots.acquire()
            waited_seconds = now() - started
        else:
            await slots.acquire()
        try:
            yield waited_seconds
        finally:
            slots.release()

    async def _on_wait(self, reason: str) -> None:
        await self._caller.on_wait(self._admission.endpoint, reason)


class HttpModel:
    """Makes conversations. What one of them learns about the model (Dialect.concede) holds for all."""

    def __init__(
        self,
        name: str,
        context_window_tokens: int,
        dialect: Dialect,
        connect: Callable[[], Channel],
        admission: Admission,
    ) -> None:
        self.name = name
        self.context_window_tokens = context_window_tokens
        self._dialect = dialect
        self._connect = connect
        self._admission = admission

    def conversation(self, tools: Sequence[ToolSpec], caller: Caller = NOBODY) -> HttpConversation:
        return HttpConversation(self._dialect, self._dialect.request(tools), self._connect(), self._admission, caller)
