"""The till of a small shop. Amounts are whole cents."""
