import unittest

from shop.stock import OutOfStock, Stock


class StockTest(unittest.TestCase):
    def test_take(self):
        stock = Stock({"tea": 2})
        stock.take("tea")
        self.assertEqual(stock.counts, {"tea": 1})

    def test_a_refused_take_changes_nothing(self):
        stock = Stock({"tea": 2})
        with self.assertRaises(OutOfStock):
            stock.take("tea", 3)
        self.assertEqual(stock.counts, {"tea": 2})

    def test_unknown_items_are_out_of_stock(self):
        with self.assertRaises(OutOfStock):
            Stock({}).take("salt")

    def test_missing_is_in_order(self):
        self.assertEqual(Stock({"tea": 0, "rice": 5, "oil": 0}).missing(), ["oil", "tea"])
