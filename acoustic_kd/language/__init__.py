"""Lexica, graphemes, word pieces, grapheme-to-phoneme conversion, n-gram language models."""
