"""Value added tax that is contained in a price."""

RATES = {"standard": 19, "reduced": 7}


def contained(gross_cents, rate="standard"):
    """The tax within a gross price, rounded half up: contained(1190) -> 190."""
    return gross_cents * RATES[rate] // 100
