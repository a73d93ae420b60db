"""``swarmq.plan``: the task becomes a plan, and the first stage starts."""

from __future__ import annotations

from functools import partial

from swarmq.agent.context import text_tokens
from swarmq.crash_points import CrashPoint, reached
from swarmq.errors import EnvironmentFault, ModelError, StoreError, UsageError
from swarmq.fleet.claims import held_job
from swarmq.fleet.lone_calls import Stopped, unless_stopped
from swarmq.fleet.paid_model import LimitReached, PaidModel
from swarmq.fleet.pod_access import require_pods
from swarmq.fleet.runtime import Runtime
from swarmq.fleet.spending import require_price
from swarmq.fleet.stages import finish
from swarmq.models.messages import Usage
from swarmq.models.plan import Plan
from swarmq.models.swarm import SwarmRecord, SwarmState
from swarmq.orchestrator.decompose import Decomposition, given_plan, plan_task, single_subtask
from swarmq.orchestrator.racing import models_of
from swarmq.providers.limiter import Caller


async def plan_swarm(runtime: Runtime, swarm_id: str) -> None:
    """Plan once, whoever calls it how often. A task that cannot be planned ends the swarm with the reason."""
    store, dispatch = runtime.store, runtime.dispatch
    async with held_job(runtime, swarm_id, "plan") as held:
        if not held:
            return
        record = await store.swarms.load(swarm_id)
        if record.state.final or (record.paused_at and record.cancel_reason is None):
            return  # resuming sends this message again
        if record.cancel_reason is None and record.error is None and record.plan is None:
            await store.swarms.set_state(swarm_id, SwarmState.PLANNING, {SwarmState.SUBMITTED})
            try:
                decomposition = await unless_stopped(runtime, swarm_id, partial(_decompose, runtime, record))
                reached(CrashPoint.PLAN_RECORDED)
                await store.swarms.set_plan(swarm_id, decomposition.plan, note=decomposition.note)
            except Stopped:
                pass
            except LimitReached as error:
                await store.swarms.set_error(swarm_id, f"planning failed: {error}", limit=error.limit)
            except StoreError:  # says nothing of the task; reconcile has it planned again
                raise
            except (ModelError, EnvironmentFault, UsageError) as error:
                await store.swarms.set_error(swarm_id, f"planning failed: {error}")
        record = await store.swarms.load(swarm_id)
        if record.plan is None and record.error is None and record.cancel_reason is None:
            return  # paused before the planner's call
    if record.cancel_reason is not None or record.error is not None:
        await finish(runtime, record)
    else:
        reached(CrashPoint.START_STAGE_SENT)
        await dispatch.start_stage(swarm_id, 0)


async def _decompose(runtime: Runtime, record: SwarmRecord, caller: Caller) -> Decomposition:
    """The producer's own plan, a single subtask, or the model's answer. The branches' model is checked in any case."""
    spec, branches_model = record.spec, model_of(runtime, record)
    planner = spec.options.planner_model or branches_model
    named = models_of(spec.plan.subtasks if spec.plan is not None else (), spec.options) | {branches_model, planner}
    named |= set(spec.options.candidate_models)
    if spec.options.placement == "pod":
        await require_pods(runtime.pod_access, named - {planner})
    else:
        for model in sorted(named - {planner}):
            runtime.models.check(model)
    require_price(runtime.models, spec.options, sorted(named))
    if spec.plan is not None:
        return given_plan(spec.plan, spec)
    if spec.options.strategy == "none":
        return Decomposition(Plan(subtasks=(single_subtask(spec),)), None, Usage())
    opened, prompt_tokens = await runtime.models.open(planner), text_tokens(spec.task + spec.context)
    return await plan_task(PaidModel(opened, runtime, spec.id, "plan", planner, prompt_tokens), spec, caller)


def model_of(runtime: Runtime, record: SwarmRecord) -> str:
    """The swarm's model, else the workers' default; UsageError names the way out where there is neither."""
    model = record.spec.options.model or runtime.settings.model
    if model is None:
        raise UsageError("model: none is named; use --model PROVIDER:NAME or set SWARMQ_MODEL")
    return model
