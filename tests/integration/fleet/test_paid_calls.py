"""The budgets of a swarm and the calls that no branch makes: a plan and a synthesis may take several."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import call, says
from fleet_fakes import OneModel, Sent

from swarmq.errors import PermanentModelError
from swarmq.fleet import finish as finish_module
from swarmq.fleet.planning import plan_swarm
from swarmq.fleet.runtime import Runtime
from swarmq.models.messages import FinishReason, Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.swarm import SwarmRecord, SwarmSpec
from swarmq.settings import load_settings
from swarmq.store.store import Store

SWARM = "swarm00001"
DEAR = Usage(input_tokens=5_000, output_tokens=1_000)
INVALID = says("", call("submit_plan", subtasks=[]), usage=DEAR)
VALID = says("", call("submit_plan", subtasks=[{"name": "A", "instruction": "B"}]), usage=DEAR)
CUT = says("One half", finish=FinishReason.LENGTH, usage=DEAR)


@pytest.fixture
def runtime(store: Store, tmp_path: Path) -> Runtime:
    settings = load_settings(state_dir=tmp_path, lease_seconds=30, heartbeat_seconds=5, model="test:x")
    return Runtime(settings, store, OneModel(), Sent(), "worker")  # type: ignore[arg-type]


async def asked(runtime: Runtime, *turns: Any, **options: Any) -> None:
    """A swarm without a plan; these are what the model says."""
    assert isinstance(runtime.models, OneModel)
    runtime.models.model.turns += turns
    spec = SwarmSpec(id=SWARM, task="look", options=SwarmOptions(**options), created_at=time.time())
    await runtime.store.swarms.create(spec)


async def planned(runtime: Runtime) -> SwarmRecord:
    await plan_swarm(runtime, SWARM)
    return await runtime.store.swarms.load(SWARM)


async def used_and_reserved(runtime: Runtime) -> tuple[float, float]:
    counters = await runtime.store.swarms.counters(SWARM)
    return counters["input_tokens"] + counters["output_tokens"], counters.get("reserved_tokens", 0)


def calls(runtime: Runtime) -> int:
    assert isinstance(runtime.models, OneModel)
    return runtime.models.model.asked


async def test_each_call_of_a_plan_counts(runtime: Runtime) -> None:
    await asked(runtime, INVALID, VALID, max_tokens=20_000)
    assert (await planned(runtime)).plan is not None
    assert await used_and_reserved(runtime) == (12_000, 0)


async def test_a_plan_is_not_repaired_where_the_budget_is_used_up(runtime: Runtime) -> None:
    await asked(runtime, INVALID, VALID, max_tokens=8_000)
    record = await planned(runtime)
    assert (record.plan, record.limit) == (None, "max_tokens")
    assert record.error == "planning failed: the swarm's max_tokens leaves no room for the call"
    assert calls(runtime) == 1
    assert await used_and_reserved(runtime) == (6_000, 0)


async def test_what_a_plan_has_cost_counts_also_where_it_fails(runtime: Runtime) -> None:
    await asked(runtime, INVALID, PermanentModelError("HTTP 401: no", 401))
    assert "HTTP 401" in ((await planned(runtime)).error or "")
    assert await used_and_reserved(runtime) == (6_000, 0)


async def test_a_synthesis_is_not_continued_where_the_budget_is_used_up(runtime: Runtime) -> None:
    await asked(runtime, CUT, says("Another", usage=DEAR), max_tokens=8_000, synthesize=True)
    answer, error = await finish_module._synthesis(runtime, await runtime.store.swarms.load(SWARM), (), None)
    assert answer is None
    assert error == "the synthesis failed: the swarm's max_tokens leaves no room for the call"
    assert calls(runtime) == 1
    assert await used_and_reserved(runtime) == (6_000, 0)
