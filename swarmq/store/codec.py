"""Records to bytes and back. What cannot be read is a SchemaError that names the record, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from swarmq.errors import SchemaError
from swarmq.models.base import SCHEMA_VERSION

M = TypeVar("M", bound=BaseModel)


def dump(record: BaseModel) -> bytes:
    """JSON, its schema version included. Lone surrogates, which models do answer with, become ``?``."""
    try:
        return record.model_dump_json().encode()
    except PydanticSerializationError:
        return dump_value(record.model_dump())


def dump_value(value: Any) -> bytes:
    """JSON of plain values. TypeError for what JSON cannot hold."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_printable(value))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def load(model: type[M], raw: bytes, what: str) -> M:
    """Raises SchemaError that names ``what`` and, where there is one, the field."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise SchemaError(f"{what}: {field}{first['msg']}; was it written by another version?") from None


@contextmanager
def reading(what: str) -> Iterator[None]:
    """SchemaError where a field of the record is missing, or holds what this version does not know."""
    try:
        yield
    except KeyError as error:
        raise SchemaError(f"{what}: it has no {error.args[0]}; was it written by another version?") from None
    except ValueError as error:  # a number that is none, a state that there is not
        raise SchemaError(f"{what}: {error}; was it written by another version?") from None


def check_version(found: bytes | int | None, what: str) -> None:
    """SchemaError unless the record has the version that this swarmq knows."""
    if found is None or int(found) != SCHEMA_VERSION:
        given = "none" if found is None else int(found)
        raise SchemaError(f"{what}: schema version {given}, this swarmq knows {SCHEMA_VERSION}; update swarmq")


def pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    """What HGETALL answers, as a dict. Names are text, values stay bytes."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
