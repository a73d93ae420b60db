import unittest

from shop.cart import Cart


class CartTest(unittest.TestCase):
    def test_total_counts_quantities(self):
        cart = Cart()
        cart.add("tea", 250, 3)
        cart.add("rice", 199)
        self.assertEqual(cart.total(), 949)

    def test_carts_do_not_share_lines(self):
        Cart().add("tea", 250)
        self.assertEqual(Cart().total(), 0)

    def test_same_item_makes_one_line(self):
        cart = Cart()
        cart.add("tea", 250)
        cart.add("tea", 250, 2)
        self.assertEqual(cart.lines, [("tea", 250, 3)])
