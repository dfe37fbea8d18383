"""Results, tables, charts, and the HTML reports of one and of several experiments."""
