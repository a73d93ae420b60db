"""Both dialects from the server's side: reading requests as strictly as the providers do, and writing answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from swarmq.testing.script import Dialect, ScriptedCall, Turn

MAX_CACHE_MARKS = 4

_OPENAI_FINISH = {"refusal": "content_filter"}
_ANTHROPIC_FINISH = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class BadRequest(Exception):
    """The request is one that the real provider would refuse with status 400."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a script needs of a request. ``answers`` is the number of assistant messages."""

    model: str
    system: str
    user: str
    answers: int


def read(dialect: Dialect, payload: Any, body: bytes) -> Asked:
    """Raises BadRequest."""
    if not isinstance(payload, dict) or not isinstance(payload.get("messages"), list) or not payload["messages"]:
        raise BadRequest("messages: a list of at least one message is required")
    if payload.get("stream"):
        raise BadRequest("stream: the scripted server does not stream")
    try:
        return _read_openai(payload) if dialect == "openai" else _read_anthropic(payload, body)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"messages: {type(error).__name__}: {error}") from None


def _read_openai(payload: dict[str, Any]) -> Asked:
    system = user = ""
    answers = 0
    pending: set[str] = set()
    for index, message in enumerate(payload["messages"]):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in pending:
                raise BadRequest(f"messages[{index}]: a tool message has to answer a call of the message before")
            pending.discard(message["tool_call_id"])
            continue
        _refuse_unanswered(pending, index)
        if role == "assistant":
            answers += 1
            pending = {call["id"] for call in message.get("tool_calls") or ()}
        elif role == "user":
            user = user or _text(message["content"])
        elif role in ("system", "developer"):
            system = system or _text(message["content"])
        else:
            raise BadRequest(f"messages[{index}]: unknown role {role!r}")
    _refuse_unanswered(pending, len(payload["messages"]))
    return Asked(str(payload["model"]), system, user, answers)


def _read_anthropic(payload: dict[str, Any], body: bytes) -> Asked:
    if not isinstance(payload.get("max_tokens"), int):
        raise BadRequest("max_tokens: Field required")
    # Inside strings the quotes are escaped, so that these bytes are a mark.
    if body.count(b'"cache_control":{') > MAX_CACHE_MARKS:
        raise BadRequest(f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided")
    user = ""
    answers = 0
    pending: set[str] = set()
    for index, message in enumerate(payload["messages"]):
        role, content = message["role"], message["content"]
        if role not in ("user", "assistant") or (index == 0 and role != "user"):
            raise BadRequest(f"messages.{index}: role {role!r} is not possible here")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if results != pending:
            raise BadRequest(f"messages.{index}: tool_use {sorted(pending)} got tool_result {sorted(results)}")
        pending = {block["id"] for block in blocks if block["type"] == "tool_use"}
        _check_blocks(blocks, index)
        if role == "assistant":
            answers += 1
        else:
            user = user or _text(blocks)
    if payload["messages"][-1]["role"] != "user":
        raise BadRequest("the conversation must end with a user message")
    return Asked(str(payload["model"]), _text(payload.get("system") or ""), user, answers)


def _refuse_unanswered(pending: set[str], index: int) -> None:
    if pending:
        raise BadRequest(f"messages[{index}]: tool_call_ids without a response before it: {sorted(pending)}")


def _check_blocks(blocks: Sequence[dict[str, Any]], index: int) -> None:
    if not blocks or blocks[-1]["type"] in ("thinking", "redacted_thinking"):
        raise BadRequest(f"messages.{index}: the last block cannot be missing or thinking")
    for block in blocks:
        if block["type"] == "text" and not block["text"].strip():
            raise BadRequest(f"messages.{index}: text content blocks must be non-empty")
        if block["type"] == "tool_use" and not isinstance(block["input"], dict):
            raise BadRequest(f"messages.{index}: tool_use.input: Input should be an object")
        if block["type"] == "thinking" and block["signature"] != _signature(block["thinking"]):
            raise BadRequest(f"messages.{index}: Invalid `signature` in `thinking` block")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block["type"] == "text")


def answer(dialect: Dialect, turn: Turn, asked: Asked, body_bytes: int, ids: Iterator[str]) -> bytes:
    """The body of a turn's answer. Usage that the script leaves out is a quarter of the bytes."""
    write = _openai_answer if dialect == "openai" else _anthropic_answer
    return orjson.dumps(write(turn, asked, body_bytes // 4 + 1, ids))


def error(dialect: Dialect, status: int, message: str, kind: str | None = None) -> bytes:
    kind = kind or _ERROR_TYPES.get(status, "api_error")
    if dialect == "anthropic":
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": kind}})


def _openai_answer(turn: Turn, asked: Asked, input_estimate: int, ids: Iterator[str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if turn.thinking is not None:
        message["reasoning_content"] = turn.thinking
    if turn.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{next(ids)}",
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments_text(call)},
            }
            for call in turn.tool_calls
        ]
    finish = _finish(turn)
    total, output, cached = _usage(turn, input_estimate)
    return {
        "id": f"chatcmpl-{next(ids)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _OPENAI_FINISH.get(finish, finish)}],
        "usage": {
            "prompt_tokens": total,
            "completion_tokens": output,
            "total_tokens": total + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def _anthropic_answer(turn: Turn, asked: Asked, input_estimate: int, ids: Iterator[str]) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if turn.thinking is not None:
        content.append({"type": "thinking", "thinking": turn.thinking, "signature": _signature(turn.thinking)})
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    for call in turn.tool_calls:
        content.append(
            {"type": "tool_use", "id": f"toolu_{next(ids)}", "name": call.name, "input": _arguments_object(call)}
        )
    finish = _finish(turn)
    total, output, cached = _usage(turn, input_estimate)
    return {
        "id": f"msg_{next(ids)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": _ANTHROPIC_FINISH.get(finish, finish),
        "stop_sequence": None,
        "usage": {
            "input_tokens": total - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": output,
        },
    }


def _finish(turn: Turn) -> str:
    return turn.finish or ("tool_calls" if turn.tool_calls else "stop")


def _usage(turn: Turn, input_estimate: int) -> tuple[int, int, int]:
    """Input in total, output, and the cached part of the input."""
    if turn.usage is not None:
        return turn.usage.input, turn.usage.output, turn.usage.cached
    written = len(turn.text) + len(turn.thinking or "")
    return input_estimate, (written + sum(len(_arguments_text(call)) for call in turn.tool_calls)) // 4 + 1, 0


def _arguments_text(call: ScriptedCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else orjson.dumps(call.arguments).decode()


def _arguments_object(call: ScriptedCall) -> dict[str, Any]:
    """Anthropic's API gives objects only: a string that is none cannot be said in it."""
    if isinstance(call.arguments, dict):
        return call.arguments
    try:
        parsed = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"invalid_json": call.arguments}


def _signature(thinking: str) -> str:
    return hashlib.sha256(thinking.encode("utf-8", "replace")).hexdigest()
