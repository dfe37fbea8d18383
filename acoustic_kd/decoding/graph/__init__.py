"""The decoding graph HCLG, constructed without composition (docs/graph.md)."""
