"""What a server's refusal means: whether it may pass later, how long to wait, and what to tell the user."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from swarmq.errors import ModelError, PermanentModelError, TransientModelError
from swarmq.providers.encoding import text_of

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
}
_HINTS = {
    401: "check the key",
    402: "the account has no credit left",
    403: "the key may not use this model or endpoint",
    404: "check the model's name and the endpoint's base_url",
    413: "the conversation is too large for this endpoint",
}
# Told, never waited for: Retry-After is the server's word on when to come back, these are accounts of its buckets.
_LIMIT_PREFIXES = ("x-ratelimit-remaining", "x-ratelimit-reset", "anthropic-ratelimit-requests-reset")


def model_error(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> ModelError:
    """The error for an HTTP answer that is none. ``headers`` has lower-case names, ``now`` is Unix seconds."""
    message, kinds = _explain(body)
    wait_seconds = retry_after_seconds(headers, time.time() if now is None else now)
    text = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    if hint := _HINTS.get(status):
        text += f" ({hint})"
    if status == 429:
        text += _limits(headers)
    if kinds & _SPENT or not _may_pass(status, headers):
        return PermanentModelError(text, status, wait_seconds)
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


def _may_pass(status: int, headers: Mapping[str, str]) -> bool:
    told = headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    return status in _TRANSIENT_STATUSES or status >= 500


def _until(http_date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(http_date).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _explain(body: bytes) -> tuple[str, set[str]]:
    """The message of an error body and the words by which it names its kind. Bodies may be anything."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[: 4 * MESSAGE_CHARACTERS].decode("utf-8", "replace")
        return "" if "<html" in text.lower() else _one_line(text), set()
    if isinstance(payload, list) and payload:  # Gemini
        payload = payload[0]
    if not isinstance(payload, dict):
        return _one_line(str(payload)), set()
    error = payload.get("error", payload)
    if not isinstance(error, dict):
        return _one_line(str(error)), set()
    details = error.get("details")
    named = [error.get("type"), error.get("code"), details.get("error_code") if isinstance(details, dict) else None]
    message = text_of(error.get("message")) or text_of(error.get("detail"))
    return _one_line(message), {kind for kind in named if isinstance(kind, str)}


def _limits(headers: Mapping[str, str]) -> str:
    told = [f"{name}={value}" for name, value in headers.items() if name.startswith(_LIMIT_PREFIXES)]
    return f" [{', '.join(told)}]" if told else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"
