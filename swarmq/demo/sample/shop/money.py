"""Amounts of money as whole cents."""


def parse(text):
    """'12.50' -> 1250, '3' -> 300, '0.5' -> 50."""
    euros, _, cents = text.strip().partition(".")
    return int(euros) * 100 + int(cents or 0)


def show(cents):
    """1250 -> '12.50', -5 -> '-0.05'."""
    return f"{cents // 100}.{cents % 100}"
