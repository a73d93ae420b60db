"""Whether the budgets of a swarm leave room for a plan, and whether its cost can be limited at all."""

from __future__ import annotations

from collections.abc import Iterable

from swarmq.errors import OptionError
from swarmq.fleet.journal import reservation
from swarmq.fleet.paid_model import expected_call
from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.models.options import DEFAULT_MAX_COST_USD, SwarmOptions
from swarmq.models.swarm import SwarmSpec
from swarmq.providers.prices import Price
from swarmq.providers.registry import SCRIPTED, Models
from swarmq.settings import Settings
from swarmq.store.budgets import Budgets


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
