"""How a conversation asks for permits, and what it tells afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from swarmq.errors import TransientModelError
from swarmq.models.limits import Bucket, Rates, Report, Verdict, Wish
from swarmq.models.messages import user
from swarmq.providers.limiter import Caller, OnWait
from swarmq.providers.registry import Models
from swarmq.settings import EndpointSettings, Settings

ANSWER = {
    "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}},
}
LEFT = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "7s"}


class OnePermit:
    """A limiter and its permits in one: remembers what it was asked and told."""

    def __init__(self, waited_seconds: float = 0.0) -> None:
        self.waited_seconds = waited_seconds
        self.wishes: list[Wish] = []
        self.reports: list[Report] = []

    async def acquire(self, wish: Wish, on_wait: OnWait) -> OnePermit:
        self.wishes.append(wish)
        if self.waited_seconds:
            await on_wait("rate")
        return self

    def release(self, report: Report) -> None:
        self.reports.append(report)


def models(limiter: OnePermit, handler: Callable[[httpx.Request], httpx.Response], **fields: object) -> Models:
    endpoint = EndpointSettings.model_validate({"base_url": "http://x/v1", **fields})
    return Models(Settings(endpoints={"mine": endpoint}), lambda: httpx.MockTransport(handler), limiter=limiter)


async def ask(found: Models, caller: Caller, spec: str = "mine:m") -> None:
    conversation = (await found.open(spec)).conversation((), caller)
    conversation.append(user("x" * 3500))
    try:
        await conversation.complete(max_output_tokens=5, temperature=None, timeout_seconds=9)
    finally:
        await conversation.aclose()


async def test_an_answer_gives_its_permit_back_with_what_was_learned() -> None:
    limiter = OnePermit()
    found = models(limiter, lambda _: httpx.Response(200, json=ANSWER, headers=LEFT), requests_per_minute=60)
    await ask(found, Caller("swarm"))
    [wish], [report] = limiter.wishes, limiter.reports
    assert (wish.endpoint, wish.swarm_id) == ("mine", "swarm")
    assert wish.rates == Rates(requests_per_minute=60)
    assert 1000 <= wish.tokens < 1100
    assert (report.verdict, report.tokens, report.signs.requests) == (Verdict.ANSWERED, 110, Bucket(10, 3, 7))


async def test_anthropic_does_not_count_what_was_cached() -> None:
    limiter = OnePermit()
    usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 10}
    answer = {"content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn", "usage": usage}
    await ask(models(limiter, lambda _: httpx.Response(200, json=answer), dialect="anthropic"), Caller())
    assert limiter.reports[0].tokens == 70


async def test_waits_are_told_to_the_caller() -> None:
    told: list[object] = []

    async def on_wait(endpoint: str, reason: str) -> None:
        told.append((endpoint, reason))

    async def on_waited(seconds: float) -> None:
        told.append(seconds)

    found = models(OnePermit(waited_seconds=1.5), lambda _: httpx.Response(200, json=ANSWER))
    await ask(found, Caller("swarm", on_wait, on_waited))
    assert told == [("mine", "rate"), 1.5]


async def test_a_refusal_is_reported_with_its_headers() -> None:
    limiter = OnePermit()
    found = models(limiter, lambda _: httpx.Response(429, headers={**LEFT, "retry-after": "3"}))
    with pytest.raises(TransientModelError):
        await ask(found, Caller())
    [report] = limiter.reports
    assert (report.verdict, report.retry_after_seconds, report.signs.requests) == (Verdict.LIMITED, 3, Bucket(10, 3, 7))


async def test_an_answer_that_tells_of_a_refusal_is_one() -> None:
    limiter = OnePermit()
    body = {"error": {"code": 429, "message": "slow down"}}
    with pytest.raises(TransientModelError):
        await ask(models(limiter, lambda _: httpx.Response(200, json=body)), Caller())
    assert [report.verdict for report in limiter.reports] == [Verdict.LIMITED]


async def test_a_cancelled_call_gives_its_permit_back() -> None:
    limiter, asked = OnePermit(), asyncio.Event()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError("never")

    endpoint = EndpointSettings(base_url="http://x/v1")
    call = asyncio.create_task(ask(Models(Settings(endpoints={"mine": endpoint}), Silent, limiter=limiter), Caller()))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [report.verdict for report in limiter.reports] == [Verdict.FAILED]


async def test_a_wait_for_this_workers_own_bound_is_a_wait_like_any_other() -> None:
    """It is told, so that a pause finds the call not made; and no time-out runs meanwhile."""
    told: list[object] = []
    entered, answering = asyncio.Event(), asyncio.Event()

    async def on_wait(endpoint: str, reason: str) -> None:
        told.append((endpoint, reason))
        answering.set()

    async def on_waited(seconds: float) -> None:
        told.append(seconds)

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            entered.set()
            await answering.wait()
            return httpx.Response(200, json=ANSWER)

    limiter, settings = OnePermit(), Settings(endpoints={"mine": EndpointSettings(base_url="http://x/v1")})
    found = Models(settings.model_copy(update={"calls_per_worker": 1}), Slow, limiter=limiter)
    first = asyncio.create_task(ask(found, Caller("first")))
    await entered.wait()
    async with asyncio.timeout(30):
        await ask(found, Caller("second", on_wait, on_waited))
    await first
    assert told[0] == ("mine", "worker")
    assert isinstance(told[1], float)
    assert told[1] > 0
    assert len(told) == 2
    assert [wish.swarm_id for wish in limiter.wishes] == ["first", "second"]


async def test_a_scripted_model_needs_no_permit(tmp_path: Path) -> None:
    limiter, script = OnePermit(), tmp_path / "s.yaml"
    script.write_text("conversations: [{match: x, turns: [{text: hi}]}]")
    found = Models(Settings(), limiter=limiter)
    try:
        await ask(found, Caller(), f"scripted:{script}")
    finally:
        await found.aclose()
    assert limiter.wishes == []
