"""Decoding graphs, search, lattices, confidences and word error rates."""
