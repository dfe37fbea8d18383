"""Writing instead of pronunciations: text, graphemes, and pieces of words (docs/units.md)."""
