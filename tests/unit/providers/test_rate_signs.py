from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import ModelError, PermanentModelError, TransientModelError
from swarmq.models.limits import NO_SIGNS, Bucket, RateSigns, Verdict
from swarmq.providers.limiter import report_of
from swarmq.providers.rate_signs import MAX_RESET_SECONDS, MOST, limit_headers, rate_signs, reset_seconds

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
NAMES = [f"x-ratelimit-{part}-{kind}" for part in ("limit", "remaining", "reset") for kind in KINDS]
NAMES += [f"anthropic-ratelimit-{kind}-{part}" for part in ("limit", "remaining", "reset") for kind in KINDS]
VALUES = st.sampled_from(["-1", "0", "5", "", "nan", "inf", "-inf", "1e309", "6m0s", "12ms", "2026-01-01T00:00:09Z"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("120ms", 0.12),
        ("1s", 1),
        ("1m30.5s", 90.5),
        ("1h2m3s", 3723),
        ("2d", MAX_RESET_SECONDS),
        ("17", 17),
        ("0", 0),
        ("1.5", 1.5),
        ("2026-01-01T00:00:09Z", 9),
        ("2026-01-01T02:00:09+02:00", 9),
        ("2026-01-01T00:00:09", 9),
        ("2025-12-31T23:59:59Z", 0),
        ("1767225609", 9),  # Unix seconds, and milliseconds
        ("1767225609500", 9.5),
        ("1767225591", 0),
        ("1e12", 0),
        ("1e18", None),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("1s1m", None),
        ("٣s", None),
    ],
)
def test_resets(text: str, seconds: float | None) -> None:
    assert reset_seconds(text, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_headers_of_openai() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert rate_signs(headers, NOW) == RateSigns(Bucket(500, 499, 0.12), Bucket(30000, 0, 360))


def test_headers_of_anthropic_give_the_token_bucket_with_the_least_left() -> None:
    headers = {
        f"anthropic-ratelimit-{kind}-{part}": value
        for kind, values in {
            "requests": ("50", "49", "2026-01-01T00:00:01Z"),
            "tokens": ("48000", "40000", "2026-01-01T00:00:10Z"),
            "input-tokens": ("40000", "39000", "2026-01-01T00:00:02Z"),
            "output-tokens": ("8000", "1000", "2026-01-01T00:00:50Z"),
        }.items()
        for part, value in zip(("limit", "remaining", "reset"), values, strict=True)
    }
    assert rate_signs(headers, NOW) == RateSigns(Bucket(50, 49, 1), Bucket(8000, 1000, 50))


@pytest.mark.parametrize("remaining", ["-1", "", "many", "inf", "1e300"])
def test_a_bucket_without_a_sound_rest_is_left_out(remaining: str) -> None:
    headers = {"x-ratelimit-limit-requests": "-1", "x-ratelimit-reset-requests": "1s"}
    assert rate_signs({**headers, "x-ratelimit-remaining-requests": remaining}, NOW) == NO_SIGNS


def test_a_limit_that_makes_no_sense_is_no_limit() -> None:
    headers = {"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "0"}
    assert rate_signs({**headers, "x-ratelimit-reset-requests": "1s"}, NOW).requests == Bucket(0, 0, 1)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES | st.text() | st.floats().map(str)))
def test_whatever_servers_send_gives_finite_buckets_or_none(headers: dict[str, str]) -> None:
    signs = rate_signs(headers, NOW)
    for bucket in (signs.requests, signs.tokens):
        if bucket is not None:
            assert 0 <= bucket.reset_seconds <= MAX_RESET_SECONDS
            assert 0 <= bucket.remaining <= MOST
            assert bucket.limit == 0 or bucket.remaining <= bucket.limit <= MOST


def test_only_headers_of_limits_are_looked_at() -> None:
    raw = [(b"X-RateLimit-Limit-Requests", b"5"), (b"content-type", b"\xff"), (b"Retry-After", b"1")]
    assert limit_headers(raw) == {"x-ratelimit-limit-requests": "5"}


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TransientModelError("slow down", 429, 2.0), Verdict.LIMITED),
        (TransientModelError("busy", 503), Verdict.OVERLOADED),
        (TransientModelError("overloaded", 529), Verdict.OVERLOADED),
        (TransientModelError("broken", 500), Verdict.FAILED),
        (TransientModelError("no answer"), Verdict.FAILED),
        (PermanentModelError("insufficient quota", 429), Verdict.FAILED),
    ],
)
def test_what_an_error_says_of_limits(error: ModelError, verdict: Verdict) -> None:
    report = report_of(error)
    assert (report.verdict, report.retry_after_seconds) == (verdict, error.retry_after_seconds)
