from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import PermanentModelError, TransientModelError
from swarmq.providers.retry import MAX_RETRY_AFTER_SECONDS, GiveUp, Retry, RetryPolicy

POLICY = RetryPolicy(max_retries=3)


def wait(attempt: int, jitter: float, retry_after_seconds: float = 0.0, max_retries: int = 10_000) -> float:
    error = TransientModelError("busy", 429, retry_after_seconds)
    decision = RetryPolicy(max_retries).decide(error, attempt, jitter)
    assert isinstance(decision, Retry)
    return decision.wait_seconds


@pytest.mark.parametrize(("attempt", "full"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (5000, 30.0)])
def test_back_off_doubles_up_to_its_limit_with_half_of_it_jitter(attempt: int, full: float) -> None:
    assert wait(attempt, 0.0) == full / 2
    assert wait(attempt, 1.0) == full


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, MAX_RETRY_AFTER_SECONDS))
def test_retry_after_is_a_floor_and_the_spread_is_small(attempt: int, jitter: float, floor: float) -> None:
    waited = wait(attempt, jitter, floor)
    assert floor <= waited <= max(floor, 15.0) + 15.0


def test_those_who_were_told_the_same_moment_come_back_apart() -> None:
    assert wait(0, 0.0, 60.0) == 60.0
    assert wait(0, 1.0, 60.0) > 60.0


def test_a_server_that_asks_for_too_much_is_given_up() -> None:
    decision = POLICY.decide(TransientModelError("busy", 429, MAX_RETRY_AFTER_SECONDS + 1), 0, 0.5)
    assert decision == GiveUp("busy (the server asks to wait 601 s)")


def test_retries_are_counted() -> None:
    error = TransientModelError("busy", 503)
    assert isinstance(POLICY.decide(error, 2, 0.5), Retry)
    assert POLICY.decide(error, 3, 0.5) == GiveUp("busy (after 3 retries)")
    assert RetryPolicy(max_retries=0).decide(error, 0, 0.5) == GiveUp("busy (after 0 retries)")


def test_permanent_errors_are_never_retried() -> None:
    assert POLICY.decide(PermanentModelError("bad key", 401), 0, 0.5) == GiveUp("bad key")
