"""What the printer gets."""

from shop import money

WIDTH = 32


def line(text, cents):
    """Text on the left, the amount on the right, WIDTH characters in all; a long text is cut."""
    amount = money.show(cents)
    return text + amount.rjust(WIDTH - len(text))
