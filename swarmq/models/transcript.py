"""A transcript: the append-only record of a branch's conversation, from which it resumes."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError

from swarmq.errors import SchemaError
from swarmq.models.base import SCHEMA_VERSION, Record
from swarmq.models.messages import FinishReason, Message, Usage
from swarmq.models.verify import VerifyReport


class Entry(Record):
    """One message. ``at`` is Unix seconds; ``step`` counts model answers, 0 before the first."""

    v: Literal[1] = SCHEMA_VERSION
    step: int = Field(ge=0)
    at: float
    message: Message
    usage: Usage | None = Field(None, description="Of an assistant message: what its model call used.")
    seconds: float = Field(0.0, description="What the model call or the tool calls took, without waits for retries.")
    finish: FinishReason | None = Field(None, description="Of an assistant message: why the model stopped.")
    adopted_from: str | None = Field(
        None, description="swarm/branch that this was said in and paid by; here it counts for no limit and no figure."
    )

    verify: VerifyReport | None = Field(
        None, description="Of a message that sends an agent back which said that it is done: what verify came to."
    )

    def encode(self) -> bytes:
        """JSON; characters that are no text (lone surrogates, from files that are not UTF-8) become ``?``."""
        try:
            return self.model_dump_json(exclude_none=True).encode()
        except PydanticSerializationError:
            return orjson.dumps(printable(self.model_dump(exclude_none=True)))

    @classmethod
    def decode(cls, raw: bytes, index: int) -> Entry:
        """The entry at ``index``. SchemaError names it where its version is unknown or it does not parse."""
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            raise SchemaError(f"transcript entry {index}: {_what_is_wrong(raw, error)}") from None


def printable(value: Any) -> Any:
    """Plain values with ``?`` for what is no text in any of their strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    return value


def _what_is_wrong(raw: bytes, error: ValidationError) -> str:
    try:
        version = orjson.loads(raw).get("v")
    except (orjson.JSONDecodeError, AttributeError):
        return "it is not a JSON object"
    if version != SCHEMA_VERSION:
        return f"schema version {version!r}, this swarmq knows {SCHEMA_VERSION}; update swarmq"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
