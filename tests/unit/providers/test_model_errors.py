from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.providers.errors import MESSAGE_CHARACTERS, model_error, retry_after_seconds

NOW = 1_790_000_000.0


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "inf"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": in_seconds(90)}, 90.0),
        ({"retry-after": in_seconds(-90)}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        # Accounts of buckets, not a request to wait.
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "90ms"}, 0.0),
        ({"anthropic-ratelimit-requests-reset": "2026-11-23T10:00:00Z"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529])
def test_statuses_that_may_pass(status: int) -> None:
    error = model_error(status, {"retry-after": "3"}, b"")
    assert isinstance(error, TransientModelError)
    assert (error.status, error.retry_after_seconds) == (status, 3.0)


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, ""), (401, "check the key"), (403, "may not use"), (404, "base_url"), (413, "too large"), (422, "")],
)
def test_statuses_that_stay(status: int, hint: str) -> None:
    error = model_error(status, {}, b'{"error": {"message": "no"}}')
    assert isinstance(error, PermanentModelError)
    assert str(error).startswith(f"HTTP {status}: no")
    assert hint in str(error)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota"}),
        (429, {"type": "requests", "code": "billing_hard_limit_reached", "message": "m"}),
        (429, {"type": "exceeded_current_quota_error", "message": "m"}),
        (429, {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}, "message": "m"}),
        (402, {"type": "billing_error", "message": "m"}),
        (500, {"code": "insufficient_quota", "message": "m"}),
    ],
)
def test_spent_money_is_never_waited_for(status: int, error: dict[str, Any]) -> None:
    found = model_error(status, {"retry-after": "1"}, orjson.dumps({"error": error}))
    assert isinstance(found, PermanentModelError)


ANTHROPIC = {"type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (400, {"error": ANTHROPIC | {"message": "Your credit balance is too low to access the Anthropic API."}}, 402),
        (400, {"error": ANTHROPIC | {"message": "You have reached your specified API usage limits. You will"}}, 402),
        (400, {"error": ANTHROPIC | {"message": "messages.3: tool_use ids were found without tool_result"}}, 400),
        (400, {"error": {"code": "billing_hard_limit_reached", "message": "m"}}, 402),
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}, 402),
        # xAI, Zhipu and Gemini name no kind.
        (429, {"code": "Some resource has been exhausted", "error": "Your team has used all available credits."}, 402),
        (403, {"code": "x", "error": "Your team has reached its monthly spending limit."}, 402),
        (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}, 402),
        (429, {"error": {"status": "RESOURCE_EXHAUSTED", "message": "Your prepayment credits are depleted."}}, 402),
        # OpenAI, of a conversation that is longer than the tokens of a minute.
        (429, {"error": {"code": "rate_limit_exceeded", "message": "Request too large: Limit 3, Requested 4"}}, 413),
    ],
)
def test_what_no_waiting_mends_has_the_status_that_says_so(status: int, body: dict[str, Any], meant: int) -> None:
    """Spent credits say nothing against the conversation: tried again, it goes on."""
    error = model_error(status, {}, orjson.dumps(body))
    assert isinstance(error, PermanentModelError)
    assert error.status == meant
    assert str(error).startswith(f"HTTP {status}: ")
    assert ("no credit left" in str(error)) == (meant == 402)


def test_gemini_says_the_same_of_a_minute_as_of_money_and_its_word_on_when_to_come_back_counts() -> None:
    """Its endpoint for OpenAI's clients sends no Retry-After."""
    message = "You exceeded your current quota, please check your plan and billing details."
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}, info]
    body = orjson.dumps(
        [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message, "details": details}}]
    )
    error = model_error(429, {}, body)
    assert isinstance(error, TransientModelError)
    assert error.retry_after_seconds == 34.5
    assert model_error(429, {"retry-after": "7"}, body).retry_after_seconds == 7


def test_openrouter_says_what_its_provider_said_and_when_its_window_ends() -> None:
    said = {"raw": "error code: 1015", "provider_name": "Kluster"}
    body = orjson.dumps({"error": {"message": "Provider returned error", "code": 429, "metadata": said}})
    assert str(model_error(429, {}, body)) == "HTTP 429: Provider returned error (Kluster: error code: 1015)"
    headers = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{NOW * 1000 + 9000:.0f}"}
    body = orjson.dumps({"error": {"message": "free-models-per-min", "code": 429, "metadata": {"headers": headers}}})
    assert model_error(429, {}, body, NOW).retry_after_seconds == 9


@pytest.mark.parametrize("delay", [None, 5, "soon", "-1s", "", [], "infs", "nans"])
def test_a_delay_that_is_none_is_left_out(delay: object) -> None:
    metadata = {"raw": 5, "headers": {"X-RateLimit-Reset": delay}}
    body = orjson.dumps({"error": {"message": "m", "details": [7, {"retryDelay": delay}], "metadata": metadata}})
    assert model_error(429, {}, body).retry_after_seconds == 0


def test_a_plain_rate_limit_may_pass_and_tells_the_buckets() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s", "date": "x"}
    error = model_error(429, headers, b'{"error": {"type": "requests", "code": "rate_limit_exceeded", "message": "m"}}')
    assert isinstance(error, TransientModelError)
    assert str(error) == "HTTP 429: m [x-ratelimit-remaining-requests=0, x-ratelimit-reset-requests=6m0s]"
    assert error.retry_after_seconds == 0.0


def test_the_servers_own_word_on_retrying_counts() -> None:
    assert isinstance(model_error(503, {"x-should-retry": "false"}, b""), PermanentModelError)
    assert isinstance(model_error(400, {"x-should-retry": "true"}, b""), TransientModelError)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "HTTP 500"),
        (b"upstream\n  gone", "HTTP 500: upstream gone"),
        (b"<!DOCTYPE html><HTML><body>x</body></HTML>", "HTTP 500"),
        (b'{"error": "model is loading"}', "HTTP 500: model is loading"),
        (b'{"object": "error", "message": "bad", "code": 500}', "HTTP 500: bad"),
        (b'{"detail": "Not here"}', "HTTP 500: Not here"),
        (b'[{"error": {"code": 500, "message": "list", "details": []}}]', "HTTP 500: list"),
        (b'{"type": "error", "error": {"type": "api_error", "message": "two\\nlines"}}', "HTTP 500: two lines"),
        (b'"text"', "HTTP 500: text"),
        (b'{"error": {"message": null}}', "HTTP 500"),
        (b"\xff\xfe", "HTTP 500: \ufffd\ufffd"),
    ],
)
def test_any_body_gives_one_line(body: bytes, text: str) -> None:
    assert str(model_error(500, {}, body)) == text


def test_a_long_message_is_cut() -> None:
    error = model_error(400, {}, orjson.dumps({"error": {"message": "x" * 100_000}}))
    assert len(str(error)) == len("HTTP 400: ") + MESSAGE_CHARACTERS
    assert str(error).endswith("…")
