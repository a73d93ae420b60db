from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from toolbench import Bench

from swarmq.agent.tools.share import SharedResults
from swarmq.models.plan import Kind
from swarmq.store.shared import BoundShared


def the_store_fits(bound: BoundShared) -> SharedResults:
    """Checked by the type checker: what the store gives is what the tool takes."""
    return bound


@dataclass(frozen=True)
class Result:
    key: str
    producer: str
    value: Any
    schema: dict[str, Any]
    tags: Sequence[str]


@dataclass
class Shared:
    """Keeps the results in memory."""

    results: dict[str, Result] = field(default_factory=dict)
    published: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, key: str, value: Any, tags: Sequence[str] = ()) -> None:
        schema = {"type": "object", "fields": {"a": "integer"}} if isinstance(value, dict) else {"type": "string"}
        self.results[key] = Result(key, "branch", value, schema, tuple(tags))
        self.published.set()

    async def get(self, key: str) -> Result | None:
        return self.results.get(key)

    async def list(self) -> Sequence[Result]:
        return [*self.results.values()]

    async def query_tags(self, tags: Sequence[str]) -> Sequence[Result]:
        return [result for result in self.results.values() if set(tags) & set(result.tags)]

    async def query_prefix(self, prefix: str) -> Sequence[Result]:
        return [result for result in self.results.values() if result.key.startswith(prefix)]

    async def wait_for(self, key: str, timeout_seconds: float) -> Result | None:
        try:
            await asyncio.wait_for(self.published.wait(), timeout_seconds)
        except TimeoutError:
            return None
        return self.results.get(key)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Kind.READ, shared=Shared())


async def test_publish_and_get(bench: Bench) -> None:
    answer = await bench.ok("swarm_share", action="publish", key="api/routes", value={"a": 1}, tags=["api", "v1"])
    assert answer == "published 'api/routes' (7 bytes)"
    assert await bench.ok("swarm_share", action="get", key="api/routes") == (
        'api/routes by branch [api, v1]\n{\n  "a": 1\n}'
    )
    await bench.ok("swarm_share", action="publish", key="note", value="two\nlines")
    assert await bench.ok("swarm_share", action="get", key="note") == "note by branch\ntwo\nlines"
    assert "nothing is published as 'other'" in await bench.error("swarm_share", action="get", key="other")


async def test_lists_tell_the_shape_and_not_the_value(bench: Bench) -> None:
    assert await bench.ok("swarm_share", action="list") == "(nothing is published)"
    await bench.ok("swarm_share", action="publish", key="a/1", value={"a": 1}, tags=["x"])
    await bench.ok("swarm_share", action="publish", key="b/2", value="long text " * 1000, tags=["y"])
    listed = await bench.ok("swarm_share", action="list")
    assert listed.startswith("a/1 by branch [x]: object (a: integer)\nb/2 by branch [y]: long text long")
    assert len(listed) < 300
    assert (await bench.ok("swarm_share", action="query_tags", tags=["y", "z"])).startswith("b/2 ")
    assert (await bench.ok("swarm_share", action="query_prefix", prefix="a/")).startswith("a/1 ")


async def test_wait_for(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.ok("swarm_share", action="wait_for", key="k", timeout=30))
    await asyncio.sleep(0)
    assert not waiting.done()
    await bench.ok("swarm_share", action="publish", key="k", value="v")
    assert await waiting == "k by branch\nv"


async def test_wait_for_ends(bench: Bench) -> None:
    answer = await bench.error("swarm_share", action="wait_for", key="k", timeout=0.01)
    assert answer == "nothing was published as 'k' within 0.01 s"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"action": "get"}, "get needs 'key'"),
        ({"action": "publish", "key": "k"}, "publish needs 'value'"),
        ({"action": "publish", "key": "k", "value": "x" * 200_000}, "publish a summary"),
        ({"action": "query_tags"}, "query_tags needs 'tags'"),
        ({"action": "delete"}, "action: input should be 'publish', 'get', 'list'"),
        ({"action": "wait_for", "key": "k", "timeout": 1000}, "less than or equal to 300"),
        ({"action": "list", "tags": "x"}, "tags: input should be a valid array"),
        ({"action": "get", "key": "k" * 300}, "at most 200 characters"),
        ({}, "action is missing"),
    ],
)
async def test_wrong_calls(bench: Bench, arguments: dict[str, Any], reason: str) -> None:
    assert reason in await bench.error("swarm_share", **arguments)


async def test_without_sharing_the_tool_is_not_there(tmp_path: Path) -> None:
    assert "there is no tool 'swarm_share'" in await Bench(tmp_path).error("swarm_share", action="list")
