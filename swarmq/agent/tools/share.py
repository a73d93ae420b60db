"""``swarm_share``: what the agents of one swarm tell each other while they work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import orjson
from pydantic import Field, JsonValue

from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.errors import ToolError
from swarmq.models.events import preview

if TYPE_CHECKING:
    from swarmq.agent.tools.context import ToolContext

MAX_VALUE_BYTES = 100_000
MAX_LISTED = 200
DEFAULT_WAIT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 300.0
_PREVIEW_CHARACTERS = 80


class SharedResult(Protocol):
    """One published value. ``value`` is plain JSON, ``schema`` its type and the types of its fields or items."""

    @property
    def key(self) -> str: ...
    @property
    def producer(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def schema(self) -> dict[str, Any]: ...
    @property
    def tags(self) -> Sequence[str]: ...


class SharedResults(Protocol):
    """The shared results of one swarm, as one branch sees them: what it publishes carries its name and its fence."""

    async def publish(self, key: str, value: Any, tags: Sequence[str] = ()) -> object: ...
    async def get(self, key: str) -> SharedResult | None: ...
    async def list(self) -> Sequence[SharedResult]: ...
    async def query_tags(self, tags: Sequence[str]) -> Sequence[SharedResult]: ...
    async def query_prefix(self, prefix: str) -> Sequence[SharedResult]: ...
    async def wait_for(self, key: str, timeout_seconds: float) -> SharedResult | None: ...


class ShareArguments(Arguments):
    action: Literal["publish", "get", "list", "query_tags", "query_prefix", "wait_for"]
    key: str = Field("", max_length=200, description="For publish, get and wait_for.")
    value: JsonValue = Field(None, description="For publish: any JSON value, at most 100,000 bytes.")
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=20, description="For publish; for query_tags: any of these."
    )
    prefix: str = Field("", max_length=200, description="For query_prefix: the start of the keys.")
    timeout: float = Field(
        DEFAULT_WAIT_SECONDS, gt=0, le=LONGEST_WAIT_SECONDS, description="For wait_for, in seconds; at most 300."
    )


async def share(arguments: ShareArguments, context: ToolContext) -> str:
    shared = context.shared
    if shared is None:
        raise ToolError("this swarm shares no results")
    match arguments.action:
        case "publish":
            return await _publish(shared, _key(arguments), arguments)
        case "get":
            key = _key(arguments)
            found = await shared.get(key)
            if found is None:
                raise ToolError(f"nothing is published as {key!r}; 'list' shows what is, 'wait_for' waits for it")
            return _whole(found)
        case "wait_for":
            key = _key(arguments)
            found = await shared.wait_for(key, arguments.timeout)
            if found is None:
                raise ToolError(f"nothing was published as {key!r} within {arguments.timeout:g} s")
            return _whole(found)
        case "list":
            return _listed(await shared.list())
        case "query_tags":
            if not arguments.tags:
                raise ToolError("query_tags needs 'tags'")
            return _listed(await shared.query_tags(arguments.tags))
        case "query_prefix":
            return _listed(await shared.query_prefix(arguments.prefix))


def _key(arguments: ShareArguments) -> str:
    if not arguments.key:
        raise ToolError(f"{arguments.action} needs 'key'")
    return arguments.key


async def _publish(shared: SharedResults, key: str, arguments: ShareArguments) -> str:
    if "value" not in arguments.model_fields_set:
        raise ToolError("publish needs 'value'")
    size_bytes = len(orjson.dumps(arguments.value))
    if size_bytes > MAX_VALUE_BYTES:
        raise ToolError(f"the value has {size_bytes:,} bytes, {MAX_VALUE_BYTES:,} is the limit; publish a summary")
    await shared.publish(key, arguments.value, arguments.tags)
    return f"published {key!r} ({size_bytes:,} bytes)"


def _whole(result: SharedResult) -> str:
    value = result.value
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return f"{_head(result)}\n{text}"


def _listed(results: Sequence[SharedResult]) -> str:
    if not results:
        return "(nothing is published)"
    lines = [f"{_head(result)}: {_shape(result)}" for result in results[:MAX_LISTED]]
    if len(results) > MAX_LISTED:
        lines.append(f"({len(results) - MAX_LISTED} more; narrow it with query_prefix or query_tags)")
    return "\n".join(lines)


def _shape(result: SharedResult) -> str:
    """Enough to decide whether to get it: the start of a text, the types within anything else."""
    if isinstance(result.value, str):
        return preview(" ".join(result.value[: 2 * _PREVIEW_CHARACTERS].split()), _PREVIEW_CHARACTERS)
    inside = ", ".join(f"{name}: {type_}" for name, type_ in result.schema.get("fields", {}).items())
    inside = inside or ", ".join(result.schema.get("items", ()))
    return preview(f"{result.schema.get('type', 'value')}{f' ({inside})' if inside else ''}", 2 * _PREVIEW_CHARACTERS)


def _head(result: SharedResult) -> str:
    tags = f" [{', '.join(result.tags)}]" if result.tags else ""
    return f"{result.key} by {result.producer}{tags}"


SHARE = Tool(
    name="swarm_share",
    description=(
        "Share results with the other agents of this swarm, and read theirs. publish: store a JSON value under a key, "
        "with tags. get: read one. list, query_tags, query_prefix: find what is there. wait_for: wait until a key is "
        "published. Results of finished subtasks are published under the subtask's id."
    ),
    arguments=ShareArguments,
    run=share,
    offered=lambda context: context.shared is not None,
)
