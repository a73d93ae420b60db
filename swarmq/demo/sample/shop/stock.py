"""What is on the shelves."""


class OutOfStock(Exception):
    """More was asked for than there is."""


class Stock:
    def __init__(self, counts):
        self.counts = counts

    def take(self, item, quantity=1):
        """Take from the shelf; OutOfStock where there is not enough, and then nothing is taken."""
        self.counts[item] -= quantity
        if self.counts[item] < 0:
            raise OutOfStock(item)

    def missing(self, below=1):
        """Items of which fewer than ``below`` are left, in order."""
        return [item for item, count in self.counts.items() if count < below]
