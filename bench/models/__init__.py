"""Networks: what there is (catalog), and how each is built."""
