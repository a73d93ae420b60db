"""Rate-limit headers, as OpenAI's and Anthropic's servers and their many imitators send them. Pure.

Seen in the wild: durations (``6m0s``, ``120ms``, ``1.5``), times (RFC 3339, Unix seconds and milliseconds), -1 for "no
limit", 0, and nonsense. What cannot be believed is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from swarmq.models.limits import NO_SIGNS, Bucket, RateSigns

MAX_RESET_SECONDS = 86_400.0
MOST = 1e15
"""No allowance is larger, nor a time later; beyond it, rates that are worked out could become infinite."""

_FIRST_TIME_SECONDS, _FIRST_TIME_MS = 1e9, 1e11  # no reset is that far off, so that it is a time since 1970

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII)
_UNITS_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_MARK = b"ratelimit-"


def limit_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Those of an answer's headers that speak of limits; names in lower case."""
    named = ((name.lower(), value) for name, value in raw)
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in named if _MARK in name}


def rate_signs(headers: Mapping[str, str], now: float) -> RateSigns:
    """What the headers say. ``now`` is Unix seconds."""
    if not headers:
        return NO_SIGNS
    requests = _openai(headers, "requests", now) or _anthropic(headers, "requests", now)
    kinds = [_anthropic(headers, kind, now) for kind in ("tokens", "input-tokens", "output-tokens")]
    told = [bucket for bucket in (_openai(headers, "tokens", now), *kinds) if bucket is not None]
    return RateSigns(requests, min(told, key=_share, default=None))


def reset_seconds(text: str, now: float) -> float | None:
    """Seconds from a duration, a number of seconds or a time; None where it is none of them."""
    text = text.strip()
    seconds = _number(text)
    if seconds is not None and seconds >= _FIRST_TIME_SECONDS:
        seconds = max(0.0, (seconds / 1000 if seconds >= _FIRST_TIME_MS else seconds) - now)
    elif seconds is None:
        found = _DURATION.fullmatch(text)
        if found and text:
            parts = zip(found.groups(), _UNITS_SECONDS, strict=True)
            seconds = sum(float(part) * unit for part, unit in parts if part is not None)
        else:
            seconds = _until(text, now)
    return min(seconds, MAX_RESET_SECONDS) if seconds is not None and seconds >= 0 else None


def _openai(headers: Mapping[str, str], kind: str, now: float) -> Bucket | None:
    return _bucket(headers, "x-ratelimit-{}-" + kind, now)


def _anthropic(headers: Mapping[str, str], kind: str, now: float) -> Bucket | None:
    return _bucket(headers, f"anthropic-ratelimit-{kind}-{{}}", now)


def _bucket(headers: Mapping[str, str], form: str, now: float) -> Bucket | None:
    """A bucket whose ``remaining`` and ``reset`` make sense; its ``limit`` may be missing."""
    remaining = _number(headers.get(form.format("remaining"), ""))
    reset = reset_seconds(headers.get(form.format("reset"), ""), now)
    if remaining is None or remaining < 0 or reset is None:
        return None
    limit = _number(headers.get(form.format("limit"), "")) or 0.0
    return Bucket(limit if limit >= remaining else 0.0, remaining, reset)


def _share(bucket: Bucket) -> float:
    """What is left of it; all of it where nobody knows of how much."""
    if bucket.remaining == 0:
        return 0.0
    return bucket.remaining / bucket.limit if bucket.limit else 1.0


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= MOST else None  # which NaN is not either


def _until(text: str, now: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return max(0.0, moment.timestamp() - now)  # a time of a moment ago is over, not nonsense
    except OverflowError:
        return None
