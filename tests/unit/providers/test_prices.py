"""Costs of calls: configured prices, the price list, and what nobody knows."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.providers.prices import ListedPrice, price_of
from swarmq.settings import BUILT_IN_ENDPOINTS, EndpointSettings

LISTED = [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5"), ("openai", "gpt-4.1")]


def endpoint(**prices: Any) -> EndpointSettings:
    return EndpointSettings.model_validate({"base_url": "http://localhost:1/v1", "prices": prices})


def test_configured_prices_count_each_kind_of_token() -> None:
    price = price_of(
        endpoint(
            big={
                "input_usd_per_mtok": 2,
                "output_usd_per_mtok": 10,
                "cached_usd_per_mtok": 0.2,
                "cache_write_usd_per_mtok": 2.5,
            }
        ),
        "big",
    )
    assert price is not None
    usage = Usage(input_tokens=1_000_000, cached_tokens=500_000, cache_write_tokens=100_000, output_tokens=10_000)
    assert price.nano_usd(usage) == round((0.4 * 2 + 0.5 * 0.2 + 0.1 * 2.5 + 0.01 * 10) * NANO_PER_USD)
    assert price.nano_usd(Usage()) == 0
    assert price.nano_usd(Usage(input_tokens=1)) == 2000


def test_cached_tokens_cost_as_much_as_others_where_no_price_is_given() -> None:
    price = price_of(endpoint(**{"*": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 3}}), "anything")
    assert price is not None
    assert price.nano_usd(Usage(input_tokens=100, cached_tokens=90)) == price.nano_usd(Usage(input_tokens=100))


def test_a_models_own_price_goes_before_the_one_for_any() -> None:
    prices = {"*": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 3}}
    prices["mini"] = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    mini, other = (price_of(endpoint(**prices), name) for name in ("mini", "other"))
    assert mini is not None
    assert other is not None
    assert (mini.nano_usd(Usage(output_tokens=1)), other.nano_usd(Usage(output_tokens=1))) == (1000, 3000)


def test_an_unknown_model_or_endpoint_has_no_price() -> None:
    assert price_of(BUILT_IN_ENDPOINTS["openai"], "no-such-model") is None
    assert price_of(endpoint(), "gpt-5") is None  # at another address the name says nothing


@pytest.mark.parametrize(("name", "model"), LISTED)
@given(data=st.data())
def test_kept_rates_say_what_the_list_says(name: str, model: str, data: st.DataObject) -> None:
    price = price_of(BUILT_IN_ENDPOINTS[name], model)
    assert isinstance(price, ListedPrice)
    for _ in range(3):  # the later ones from rates that are kept
        total = data.draw(st.integers(0, 1_000_000) | st.sampled_from([199_999, 200_000, 200_001, 272_000, 272_001]))
        cached = data.draw(st.integers(0, total))
        written = data.draw(st.integers(0, total - cached))
        output = data.draw(st.integers(0, 100_000))
        usage = Usage(input_tokens=total, cached_tokens=cached, cache_write_tokens=written, output_tokens=output)
        listed = price.listed_usd(usage, datetime.now(UTC)) * NANO_PER_USD
        assert math.isclose(price.nano_usd(usage), listed, rel_tol=1e-6, abs_tol=1.0)


@pytest.mark.parametrize("usd", [-1, math.nan, math.inf, 1e7])
def test_a_price_that_cannot_be_is_refused(usd: float) -> None:
    for name in ("input", "output", "cached", "cache_write"):
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1} | {f"{name}_usd_per_mtok": usd}
        with pytest.raises(ValidationError, match=f"{name}_usd_per_mtok"):
            endpoint(m=price)
