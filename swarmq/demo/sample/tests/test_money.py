import unittest

from shop import money


class MoneyTest(unittest.TestCase):
    def test_parse(self):
        self.assertEqual(money.parse("12.50"), 1250)
        self.assertEqual(money.parse("3"), 300)

    def test_parse_one_decimal(self):
        self.assertEqual(money.parse("0.5"), 50)

    def test_parse_negative(self):
        self.assertEqual(money.parse("-0.05"), -5)

    def test_show_pads_cents(self):
        self.assertEqual(money.show(1205), "12.05")

    def test_show_negative(self):
        self.assertEqual(money.show(-5), "-0.05")
