import unittest

from shop import receipt


class ReceiptTest(unittest.TestCase):
    def test_amount_is_on_the_right(self):
        line = receipt.line("Tea", 1205)
        self.assertEqual(len(line), receipt.WIDTH)
        self.assertTrue(line.startswith("Tea ") and line.endswith(" 12.05"))

    def test_long_text_is_cut(self):
        line = receipt.line("Tea, loose leaf, first flush, from the hills", 1205)
        self.assertEqual(len(line), receipt.WIDTH)
        self.assertTrue(line.endswith(" 12.05"))
