"""From a task to a plan (S2): one question to the model, one repair round, one fallback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from swarmq.agent.answers import answered
from swarmq.agent.model_call import Patience, Wait, complete, told_to
from swarmq.agent.timing import Clock
from swarmq.errors import PlanError
from swarmq.models.messages import Completion, Usage, system, user
from swarmq.models.options import Strategy
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import SwarmSpec
from swarmq.orchestrator.declared_files import settle
from swarmq.orchestrator.model_plan import plan_of_answer
from swarmq.orchestrator.planning_prompts import repair_text, submit_plan, system_text, task_text
from swarmq.providers.base import ChatModel, Conversation
from swarmq.providers.limiter import Caller
from swarmq.workspace.overview import repository_overview

log = structlog.get_logger()

SINGLE_NAME = "task"
ROUNDS = 2
"""The question and one repair."""


@dataclass(frozen=True)
class Decomposition:
    """A plan, what is to be said about how it came about, and what it cost."""

    plan: Plan
    note: str | None
    usage: Usage


def single_subtask(spec: SwarmSpec) -> Subtask:
    """The whole task as one subtask; without a repository it can only read."""
    instruction = spec.task.strip()
    if spec.context.strip():
        instruction += f"\n\nWhat came before it:\n\n{spec.context.strip()}"
    return Subtask(name=SINGLE_NAME, instruction=instruction, kind=Kind.READ if spec.repo is None else Kind.EDIT)


def given_plan(plan: Plan, spec: SwarmSpec) -> Decomposition:
    """A plan of the producer's own. It is changed only where the options say so."""
    settled = settle(plan, spec.options.declared_overlaps, by_model=False)
    return Decomposition(settled.plan, settled.note, Usage())


async def plan_task(model: ChatModel, spec: SwarmSpec, caller: Caller | None = None) -> Decomposition:
    """``decompose`` with a picture of the swarm's repository, where it has one."""
    overview = ""
    if spec.repo is not None and spec.base_commit is not None:
        overview = await repository_overview(Path(spec.repo), spec.base_commit)
    return await decompose(model, spec, caller, overview=overview)


async def decompose(
    model: ChatModel, spec: SwarmSpec, caller: Caller | None = None, *, overview: str = "", clock: Clock | None = None
) -> Decomposition:
    """Ask for a plan. ``overview`` tells the planner what the repository holds.

    A plan that stays invalid after one repair round becomes a single subtask with a note. Raises ModelError where the
    model could not be asked: that is no reason to spend money on a plan nobody made.
    """
    if spec.options.strategy is Strategy.NONE:
        return Decomposition(Plan(subtasks=(single_subtask(spec),)), None, Usage())
    has_files = spec.repo is not None
    caller, clock = caller or Caller(spec.id), clock or Clock()
    conversation = model.conversation([submit_plan(has_files=has_files)], caller)
    conversation.append(system(system_text(spec, has_files=has_files)))
    conversation.append(user(task_text(spec, overview)))
    try:
        return await _ask(conversation, spec, clock, told_to(caller, clock), has_files=has_files)
    finally:
        await conversation.aclose()


async def _ask(
    conversation: Conversation, spec: SwarmSpec, clock: Clock, wait: Wait, *, has_files: bool
) -> Decomposition:
    patience, usage, problem = Patience.of(spec.options), Usage(), ""
    for _ in range(ROUNDS):
        completion = await complete(conversation, patience, clock, wait=wait)
        usage += completion.usage
        try:
            plan = plan_of_answer(completion, spec.options.max_subtasks, has_files=has_files)
        except PlanError as error:
            problem = str(error)
            log.info("the model's plan is invalid", swarm=spec.id, error=problem)
            _show(conversation, completion, problem)
        else:
            settled = settle(plan, spec.options.declared_overlaps, by_model=True)
            return Decomposition(settled.plan, settled.note, usage)
    note = f"The model gave no valid plan ({problem}); the whole task is one subtask."
    return Decomposition(Plan(subtasks=(single_subtask(spec),)), note, usage)


def _show(conversation: Conversation, completion: Completion, error: str) -> None:
    """The model's own answer and what is wrong with it, as its dialect wants it: calls are answered by results."""
    message = completion.message
    if message.tool_calls:
        conversation.append(message)
        conversation.append(answered(message, repair_text(error)))
        return
    if message.text.strip():
        conversation.append(message)
    conversation.append(user(repair_text(error)))
