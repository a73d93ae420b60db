import unittest

from shop import discounts


class DiscountsTest(unittest.TestCase):
    def test_percent_rounds_half_up(self):
        self.assertEqual(discounts.percent(995, 10), 100)
        self.assertEqual(discounts.percent(994, 10), 99)

    def test_three_for_two(self):
        self.assertEqual(discounts.three_for_two(250, 2), 0)
        self.assertEqual(discounts.three_for_two(250, 3), 250)
        self.assertEqual(discounts.three_for_two(250, 7), 500)
