"""What a model call costs, without a network: the endpoint's own prices, else the list that genai-prices ships."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from swarmq.models.messages import Usage
from swarmq.models.money import NANO_PER_USD
from swarmq.settings import EndpointSettings

ANY_MODEL = "*"
_PROBE_TOKENS = 1_000_000


class Price(Protocol):
    """The price of one model."""

    def nano_usd(self, usage: Usage) -> int:
        """What a call with that usage costs, in 1e-9 USD, rounded up."""


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Nano-dollars per token of each kind; ``plain`` input is what no cache held."""

    plain: float
    cached: float
    cache_write: float
    output: float

    def nano_usd(self, usage: Usage) -> int:
        plain_tokens = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        cost = (
            plain_tokens * self.plain
            + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        )
        return math.ceil(round(cost, 3))  # whole results stay whole


class ListedPrice:
    """A model of the price list. A lookup costs 120 µs there, so what it gives is kept as rates.

    They hold for one set of prices (some change with the time of day) and one tier (by the length of the prompt).
    """

    def __init__(self, model: Any, provider: Any) -> None:
        self._model, self._provider = model, provider
        self._rates: dict[tuple[int, int], TokenPrices] = {}

    def nano_usd(self, usage: Usage) -> int:
        now = datetime.now(UTC)
        prices = self._model.get_prices(now)
        input_tokens = usage.input_tokens or 1
        key = (id(prices), bisect_left(_tier_starts(prices), input_tokens))
        if key not in self._rates:
            self._rates[key] = self._ask(now, input_tokens)
        return self._rates[key].nano_usd(usage)

    def _ask(self, now: datetime, input_tokens: int) -> TokenPrices:
        def cost(**counts: int) -> float:
            return self.listed_usd(Usage(input_tokens=input_tokens, **counts), now)

        plain = cost()
        return TokenPrices(
            plain=plain * NANO_PER_USD / input_tokens,
            cached=cost(cached_tokens=input_tokens) * NANO_PER_USD / input_tokens,
            cache_write=cost(cache_write_tokens=input_tokens) * NANO_PER_USD / input_tokens,
            output=(cost(output_tokens=_PROBE_TOKENS) - plain) * NANO_PER_USD / _PROBE_TOKENS,
        )

    def listed_usd(self, usage: Usage, now: datetime) -> float:
        """What the list itself says of one call."""
        import genai_prices

        counted = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        found = self._model.calc_price(counted, self._provider, genai_request_timestamp=now)
        return float(found.total_price)


FREE = TokenPrices(0, 0, 0, 0)
"""A scripted model costs nothing."""


def price_of(endpoint: EndpointSettings, model: str) -> Price | None:
    """The price of a model at that endpoint; None where nobody knows it."""
    prices = endpoint.prices.get(model) or endpoint.prices.get(ANY_MODEL)
    if prices is None:
        return _listed(endpoint.base_url, model)

    def rate(usd_per_mtok: float | None) -> float:
        """Cached tokens cost as much as others where no price of theirs is given."""
        return (prices.input_usd_per_mtok if usd_per_mtok is None else usd_per_mtok) * NANO_PER_USD / 1_000_000

    return TokenPrices(
        plain=rate(None),
        cached=rate(prices.cached_usd_per_mtok),
        cache_write=rate(prices.cache_write_usd_per_mtok),
        output=rate(prices.output_usd_per_mtok),
    )


def _listed(base_url: str, model: str) -> ListedPrice | None:
    from genai_prices.data_snapshot import get_snapshot  # 0.2 s with its list: only for processes that call models

    try:
        provider, found = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return ListedPrice(found, provider)


def _tier_starts(prices: Any) -> list[int]:
    tiered = (price for price in vars(prices).values() if hasattr(price, "tiers"))
    return sorted({tier.start for price in tiered for tier in price.tiers})
