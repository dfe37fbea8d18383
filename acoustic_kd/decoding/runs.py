"""Runs of numbers, as the arcs of a state are: of many runs at once, without a loop over them."""

import numpy as np


def ranges(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, …, then those of first[1], …; `size` numbers of each."""
    ends = np.cumsum(size)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - ends + size, size)
