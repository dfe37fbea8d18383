"""The decoding graph HCLG, constructed without composition (docs/design.md)."""
