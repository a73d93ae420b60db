"""What calls cost a swarm that no branch makes, and whether its cost can be limited at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from swarmq.agent.room import EXPECTED_OUTPUT_TOKENS
from swarmq.errors import OptionError
from swarmq.fleet.journal import reservation
from swarmq.fleet.runtime import Runtime
from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.models.options import DEFAULT_MAX_COST_USD, SwarmOptions
from swarmq.models.swarm import SwarmRecord, SwarmSpec
from swarmq.providers.prices import Price
from swarmq.providers.registry import SCRIPTED, Models
from swarmq.settings import Settings
from swarmq.store.budgets import Budgets

INSTRUCTION_TOKENS = 3_000
"""About what the instructions, the tool and the picture of the repository add to a planner's prompt."""


class LimitReached(Exception):
    """The swarm's budgets leave no room for the call; ``limit`` is the option."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"the swarm's {limit} leaves no room for the call")
        self.limit = limit


@dataclass
class PaidCall:
    """``usage`` is to be set by whoever made the calls; it counts from the end of the block."""

    usage: Usage = field(default_factory=Usage)


def expected_call(prompt_tokens: int) -> Usage:
    """What such a call is expected to use; its own prompt has ``prompt_tokens``."""
    return Usage(input_tokens=prompt_tokens + INSTRUCTION_TOKENS, output_tokens=EXPECTED_OUTPUT_TOKENS)


def require_room(models: Models, options: SwarmOptions, planner: str, prompt_tokens: int) -> None:
    """OptionError where the budgets of a swarm that has spent nothing leave no room for its planning call."""
    price = models.price(planner)
    expected = reservation(expected_call(prompt_tokens), price)
    way_out = "raise it, or bring a plan"
    if options.max_tokens is not None and expected.tokens > options.max_tokens:
        said = f"{options.max_tokens:,} leaves no room for the planning call, which takes about {expected.tokens:,}"
        raise OptionError(f"max_tokens: {said}: {way_out}")
    limit_usd = options.max_cost_usd or DEFAULT_MAX_COST_USD
    if expected.nano_usd > limit_usd * NANO_PER_USD:
        said = f"{limit_usd:g} leaves no room for the planning call, which takes about"
        raise OptionError(f"max_cost_usd: {said} {expected.nano_usd / NANO_PER_USD:.4f}: {way_out}")


async def count_planning(budgets: Budgets, settings: Settings, spec: SwarmSpec, usage: Usage | None) -> None:
    """What the producer's own planning has used becomes the new swarm's; the cost as far as it knows the price."""
    if usage is None:
        return
    planner = spec.options.planner_model or spec.options.model or settings.model or ""
    endpoint = planner.partition(":")[0]
    known = endpoint == SCRIPTED or settings.endpoint(endpoint) is not None
    price = Models(settings).price(planner) if known else None
    await budgets.settle(spec.id, "plan", usage, None if price is None else price.nano_usd(usage))


@asynccontextmanager
async def paid_call(
    runtime: Runtime, record: SwarmRecord, job: str, model_spec: str, prompt_tokens: int
) -> AsyncIterator[PaidCall]:
    """Reserve a call of a job (plan, finish_swarm) from the swarm's budgets, and count what it used. LimitReached.

    No branch runs before the plan or after the last stage, so that there is nobody to wait for.
    """
    budgets, price, swarm_id = runtime.store.budgets, runtime.models.price(model_spec), record.spec.id
    reserved = await budgets.reserve(swarm_id, job, reservation(expected_call(prompt_tokens), price))
    if reserved.limit is not None:
        raise LimitReached(reserved.limit)
    call = PaidCall()
    try:
        yield call
    finally:
        used = call.usage != Usage()
        nano_usd = None if price is None and used else 0 if price is None else price.nano_usd(call.usage)
        await budgets.settle(swarm_id, job, call.usage, nano_usd)


def price_of(models: Models, options: SwarmOptions, model_spec: str) -> Price | None:
    """What a branch's calls cost. OptionError as below: this worker's settings may lack what the planner's had."""
    require_price(models, options, (model_spec,))
    return models.price(model_spec)


def require_price(models: Models, options: SwarmOptions, model_specs: Iterable[str]) -> None:
    """OptionError where a cost limit was asked for and the price of a model is not known."""
    if options.max_cost_usd is None:
        return
    for spec in model_specs:
        if models.price(spec) is None:
            endpoint, _, name = spec.partition(":")
            raise OptionError(
                f"max_cost_usd: the price of {spec} is not known, so its cost cannot be limited; set "
                f'[endpoints.{endpoint}.prices."{name}"] in swarmq.toml, or limit max_tokens instead'
            )
