"""What a server's refusal means: whether it may pass later, how long to wait, and what to tell the user."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from swarmq.errors import ModelError, PermanentModelError, TransientModelError
from swarmq.providers.encoding import text_of
from swarmq.providers.rate_signs import reset_seconds

MESSAGE_CHARACTERS = 500

_TRANSIENT_STATUSES = {408, 409, 425, 429}  # and all from 500 up
# Spent money does not come back by waiting, whatever status it is told with.
_SPENT = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "exceeded_current_quota_error",
    "enforced_spend_limit_reached",
    "insufficient_balance",
    "Arrearage",
}
# Others say it in words, also of a limit that the account's owner has set. "Exceeded your current quota" is not among
# these: Gemini says so of minutes as well.
_SPENT_IN_WORDS = re.compile(
    r"insufficient (?:account )?(?:balance|credit|funds)|(?:used all|out of) (?:available |your )?credits"
    r"|spending limit|credits are depleted|credit balance|specified API usage limits",
    re.IGNORECASE,
)
_SAYS_SPENT_IN_WORDS = {400, 402, 403, 429}
_NO_CREDIT, _TOO_LARGE = 402, 413
_HINTS = {
    401: "check the key",
    _NO_CREDIT: "the account has no credit left",
    403: "the key may not use this model or endpoint",
    404: "check the model's name and the endpoint's base_url",
    _TOO_LARGE: "the conversation is too large for this endpoint",
}
# Told, never waited for: Retry-After is the server's word on when to come back, these are accounts of its buckets.
_LIMIT_PREFIXES = ("x-ratelimit-remaining", "x-ratelimit-reset", "anthropic-ratelimit-requests-reset")


def model_error(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> ModelError:
    """The error for an HTTP answer that is none. ``headers`` has lower-case names, ``now`` is Unix seconds.

    The error's status is 402 for spent money and 413 for too large a request, whatever the answer's is.
    """
    now = time.time() if now is None else now
    message, kinds, delay_seconds = _explain(body, now)
    wait_seconds = retry_after_seconds(headers, now) or delay_seconds
    text = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    meant = _meant(status, message, kinds)
    if hint := _HINTS.get(meant):
        text += f" ({hint})"
    if status == 429:
        text += _limits(headers)
    if meant != status or not _may_pass(status, headers):
        return PermanentModelError(text, meant, wait_seconds)
    return TransientModelError(text, status, wait_seconds)


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float:
    """How long the server asks to wait, from milliseconds, seconds or an HTTP date; 0 where it does not say."""
    for name, unit_seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = headers.get(name, "").strip()
        try:
            seconds = float(given) * unit_seconds
        except ValueError:
            seconds = _until(given, now)
        if seconds > 0 and math.isfinite(seconds):
            return seconds
    return 0.0


def answer_object(answer: bytes) -> dict[str, Any]:
    """The JSON object that a successful answer has to be. Raises TransientModelError."""
    try:
        payload = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise malformed(f"not JSON ({error})") from None
    if not isinstance(payload, dict):
        raise malformed("no JSON object")
    return payload


def answered_error(payload: Mapping[str, Any]) -> ModelError | None:
    """The error in an answer with status 200, as OpenRouter gives it; None where there is none."""
    error = payload.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return model_error(status, {}, orjson.dumps({"error": error}))


def malformed(what: str) -> TransientModelError:
    """A successful answer that cannot be read: servers and proxies under load give such, so it may pass."""
    return TransientModelError(f"the answer is malformed: {what}", 200)


def _meant(status: int, message: str, kinds: set[str]) -> int:
    """The status that says what is wrong, where the server took one that says something else.

    Anthropic tells of spent credits with 400, which else is a word on the conversation; OpenAI with 429, as it does of
    one request that is above the tokens of a minute.
    """
    if kinds & _SPENT or (status in _SAYS_SPENT_IN_WORDS and _SPENT_IN_WORDS.search(message)):
        return _NO_CREDIT
    return _TOO_LARGE if status == 429 and "request too large" in message.lower() else status


def _may_pass(status: int, headers: Mapping[str, str]) -> bool:
    told = headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    return status in _TRANSIENT_STATUSES or status >= 500


def _until(http_date: str, now: float) -> float:
    moment = http_time(http_date)
    return 0.0 if moment is None else moment - now


def http_time(http_date: str) -> float | None:
    """Unix seconds; None for what is no date."""
    try:
        return parsedate_to_datetime(http_date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _explain(body: bytes, now: float) -> tuple[str, set[str], float]:
    """An error body's message, the words by which it names its kind, and the seconds to wait that it tells (0: none).

    Bodies may be anything.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[: 4 * MESSAGE_CHARACTERS].decode("utf-8", "replace")
        return "" if "<html" in text.lower() else _one_line(text), set(), 0.0
    if isinstance(payload, list) and payload:  # Gemini
        payload = payload[0]
    if not isinstance(payload, dict):
        return _one_line(str(payload)), set(), 0.0
    error = payload.get("error", payload)
    if not isinstance(error, dict):
        return _one_line(str(error)), set(), 0.0
    details, metadata = error.get("details"), error.get("metadata")
    named = [error.get("type"), error.get("code"), details.get("error_code") if isinstance(details, dict) else None]
    message = text_of(error.get("message")) or text_of(error.get("detail"))
    if isinstance(metadata, dict) and text_of(metadata.get("raw")):  # OpenRouter: what its provider said
        message += f" ({text_of(metadata.get('provider_name')) or 'provider'}: {metadata['raw']})"
    delay_seconds = _delay_seconds(details, metadata, now)
    return _one_line(message), {kind for kind in named if isinstance(kind, str)}, delay_seconds


def _delay_seconds(details: Any, metadata: Any, now: float) -> float:
    """Google's RetryInfo, and the end of OpenRouter's window: both send no Retry-After."""
    infos = details if isinstance(details, list) else ()
    told = [text_of(info.get("retryDelay")) for info in infos if isinstance(info, dict)]
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(headers, dict):
        told.append(text_of(headers.get("X-RateLimit-Reset")))
    return max((reset_seconds(text, now) or 0.0 for text in told), default=0.0)


def _limits(headers: Mapping[str, str]) -> str:
    told = [f"{name}={value}" for name, value in headers.items() if name.startswith(_LIMIT_PREFIXES)]
    return f" [{', '.join(told)}]" if told else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"
