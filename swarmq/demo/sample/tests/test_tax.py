import unittest

from shop import tax


class TaxTest(unittest.TestCase):
    def test_standard(self):
        self.assertEqual(tax.contained(1190), 190)

    def test_reduced(self):
        self.assertEqual(tax.contained(107, "reduced"), 7)

    def test_rounds_half_up(self):
        self.assertEqual(tax.contained(100), 16)
