"""Reductions, in whole cents."""


def percent(cents, rate):
    """The reduction of ``rate`` per cent, rounded half up: percent(995, 10) -> 100."""
    return int(cents * rate / 100)


def three_for_two(unit_cents, quantity):
    """Every third one is free."""
    return unit_cents * (quantity // 2)
