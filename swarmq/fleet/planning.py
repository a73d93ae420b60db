"""``swarmq.plan``: the task becomes a plan, and the first stage starts."""

from __future__ import annotations

from swarmq.errors import EnvironmentFault, ModelError, UsageError
from swarmq.fleet.claims import held_job
from swarmq.fleet.runtime import Runtime
from swarmq.models.messages import Usage
from swarmq.models.plan import Plan
from swarmq.models.swarm import SwarmRecord, SwarmState
from swarmq.orchestrator.decompose import Decomposition, plan_task, single_subtask


async def plan_swarm(runtime: Runtime, swarm_id: str) -> None:
    """Plan once, whoever calls it how often. A task that cannot be planned ends the swarm with the reason."""
    store, dispatch = runtime.store, runtime.dispatch
    async with held_job(runtime, swarm_id, "plan") as held:
        if not held:
            return
        record = await store.swarms.load(swarm_id)
        if record.state.final:
            return
        if record.cancel_reason is None and record.plan is None:
            await store.swarms.set_state(swarm_id, SwarmState.PLANNING, {SwarmState.SUBMITTED})
            try:
                decomposition = await _decompose(runtime, record)
                await store.swarms.set_plan(swarm_id, decomposition.plan, note=decomposition.note)
                await count_usage(runtime, swarm_id, decomposition.usage)
            except (ModelError, EnvironmentFault, UsageError) as error:
                await store.swarms.set_error(swarm_id, f"planning failed: {error}")
        record = await store.swarms.load(swarm_id)
    if record.cancel_reason is not None or record.error is not None:
        await dispatch.finish_swarm(swarm_id, calls_model=False)
    else:
        await dispatch.start_stage(swarm_id, 0)


async def _decompose(runtime: Runtime, record: SwarmRecord) -> Decomposition:
    """The producer's own plan, a single subtask, or the model's answer. The branches' model is checked in any case."""
    spec = record.spec
    runtime.models.check(model_of(runtime, record))
    if spec.plan is not None:
        return Decomposition(spec.plan, None, Usage())
    if spec.options.strategy == "none":
        return Decomposition(Plan(subtasks=(single_subtask(spec),)), None, Usage())
    model = await runtime.models.open(spec.options.planner_model or model_of(runtime, record))
    return await plan_task(model, spec)


def model_of(runtime: Runtime, record: SwarmRecord) -> str:
    """The swarm's model, else the workers' default; UsageError names the way out where there is neither."""
    model = record.spec.options.model or runtime.settings.model
    if model is None:
        raise UsageError("model: none is named; use --model PROVIDER:NAME or set SWARMQ_MODEL")
    return model


async def count_usage(runtime: Runtime, swarm_id: str, usage: Usage) -> None:
    await runtime.store.swarms.add(
        swarm_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
