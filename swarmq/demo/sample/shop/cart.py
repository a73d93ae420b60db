"""A customer's cart."""


class Cart:
    def __init__(self, lines=[]):
        self.lines = lines

    def add(self, item, unit_cents, quantity=1):
        """Add items; the same item at the same price makes one line."""
        self.lines.append((item, unit_cents, quantity))

    def total(self):
        """The sum of all lines in cents."""
        return sum(unit_cents for _, unit_cents, _ in self.lines)
