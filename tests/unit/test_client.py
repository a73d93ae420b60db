"""What the client does before it talks to anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmq import AsyncClient, Kind, Plan, Subtask, devstack
from swarmq.devstack import StackInfo
from swarmq.errors import StoreError, UsageError
from swarmq.fleet.dispatch import Dispatcher
from swarmq.handle import retry_of
from swarmq.models.messages import Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.swarm import SwarmRecord, SwarmSpec, SwarmState
from swarmq.settings import EndpointSettings, Settings, load_settings
from swarmq.store.budgets import Budgets
from swarmq.store.swarms import Swarms

SUBTASK = Subtask(name="a", instruction="Look.", kind=Kind.READ, models=("foo:bar",))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name in ("SWARMQ_REDIS_URL", "SWARMQ_REDIS_URL_FILE", "SWARMQ_MODEL", "SWARMQ_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    return load_settings(state_dir=tmp_path / "state", runtime_dir=tmp_path / "run", redis_retry_seconds=0)


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that the embedded stack was asked for, whether this client's variables were brought along.

    Nothing listens at its socket.
    """
    calls: list[bool] = []

    def ensure(settings: Any, *, bring_variables: bool = False) -> StackInfo:
        calls.append(bring_variables)
        changed = ("OPENAI_API_KEY",) if bring_variables else ()
        return StackInfo(f"unix://{tmp_path}/none.sock", None, tmp_path, started=False, changed=changed)

    monkeypatch.setattr(devstack, "ensure", ensure)
    return calls


async def test_only_who_submits_brings_keys_to_the_embedded_workers(
    settings: Settings, brought: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(settings=settings) as client:
        reading: list[Callable[[], Any]] = [client.workers, client.list, lambda: client.get("last"), client.cache_stats]
        for read in reading:
            with pytest.raises(StoreError):
                await read()
        assert (brought, caplog.messages) == ([False], [])
        with pytest.raises(StoreError):
            await client.submit("do it", model="openai:m")
    assert brought == [False, True]
    assert caplog.messages == ["workers restarted: OPENAI_API_KEY changed"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"task": "do it"}, "model: none is named"),
        ({"task": "do it", "model": "foo:bar"}, "unknown model endpoint 'foo'"),
        ({"task": "do it", "model": "openai:m", "planner_model": "gpt"}, "write ENDPOINT:NAME"),
        ({"task": "do it", "model": "openai:m", "candidate_models": ["foo:bar"]}, "unknown model endpoint 'foo'"),
        ({"task": Plan(subtasks=(SUBTASK,)), "model": "openai:m"}, "unknown model endpoint 'foo'"),
    ],
)
async def test_a_model_that_nobody_can_know_is_refused_before_anything_starts(
    settings: Settings, brought: list[bool], request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        await AsyncClient(settings=settings).submit(**request_)
    assert brought == []


async def test_the_embedded_stacks_swarm_gets_the_default_of_who_submits_it(
    settings: Settings, brought: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[SwarmSpec] = []

    async def create(self: Any, spec: SwarmSpec) -> str:
        recorded.append(spec)
        return "joined"

    monkeypatch.setattr(Swarms, "create", create)
    async with AsyncClient(settings=settings.model_copy(update={"model": "openai:m"})) as client:
        await client.submit("do it")
        assert recorded[0].options.model == "openai:m"
        await client.submit("do it", model="anthropic:m")
        assert recorded[1].options.model == "anthropic:m"


async def test_workers_elsewhere_may_know_more_than_this_machine(settings: Settings, tmp_path: Path) -> None:
    async with AsyncClient(f"unix://{tmp_path}/none.sock", settings=settings) as client:
        unknown_here: list[dict[str, Any]] = [{}, {"model": "foo:bar"}, {"model": "scripted:/not/here.yaml"}]
        for options in unknown_here:
            with pytest.raises(StoreError):  # it got as far as Redis
                await client.submit("do it", **options)
        with pytest.raises(UsageError, match="write ENDPOINT:NAME"):
            await client.submit("do it", model="gpt")


async def test_a_retry_is_asked_only_for_the_models_that_are_new(
    settings: Settings, brought: list[bool], tmp_path: Path
) -> None:
    options = SwarmOptions(model="theirs:m")
    earlier = SwarmRecord(
        spec=SwarmSpec(id="k3x9", task="do it", options=options, created_at=1.0), state=SwarmState.FAILED
    )
    async with AsyncClient(settings=settings) as client:
        with pytest.raises(StoreError):
            await client.start(retry_of(earlier, False, {}), known=options)
        with pytest.raises(UsageError, match="unknown model endpoint 'foo'"):
            await client.start(retry_of(earlier, False, {"model": "foo:bar"}), known=options)


async def test_what_a_plan_has_cost_is_the_swarms(
    settings: Settings, brought: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    async def create(self: Any, spec: SwarmSpec) -> str:
        return spec.id

    async def settle(self: Any, swarm_id: str, job: str, usage: Usage, nano_usd: int | None) -> None:
        done.append((job, usage, nano_usd))

    async def plan(self: Any, swarm_id: str) -> None:
        done.append("planned")

    monkeypatch.setattr(Swarms, "create", create)
    monkeypatch.setattr(Budgets, "settle", settle)
    monkeypatch.setattr(Dispatcher, "plan", plan)
    priced = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    endpoint = EndpointSettings.model_validate({"base_url": "http://127.0.0.1:1", "prices": {"m": priced}})
    used = Usage(input_tokens=700, output_tokens=82)
    async with AsyncClient(settings=settings.model_copy(update={"endpoints": {"mine": endpoint}})) as client:
        await client.submit("do it", model="mine:m", plan_usage=used)
        await client.submit("do it", model="mine:m")
        await client.submit("do it", model="mine:free", plan_usage=used)
    assert done == [("plan", used, 864_000), "planned", "planned", ("plan", used, None), "planned"]
