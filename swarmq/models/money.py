"""Money. Costs are added up as whole nano-dollars: fractions of a dollar would drift, and Lua counts to 2^53."""

from __future__ import annotations

NANO_PER_USD = 10**9
