"""Is one cell worse than another, or is it the noise of the seeds?"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev, variance
from typing import Any

import numpy as np

LEVEL = 0.95
STEPS = 100_000  # of the integral


@dataclass(frozen=True)
class Difference:
    """A difference of two means.

    Attributes:
        mean: ours − theirs.
        error: its standard error.
        low, high: Welch's 95 % interval.
    """

    mean: float
    error: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """worse or better, or within noise if the interval holds 0."""
        if self.low <= 0 <= self.high:
            return "within noise"
        return "worse" if self.mean < 0 else "better"


def welch(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """The difference of the means of two samples whose variances may differ (Welch 1947).

    Args:
        ours, theirs: two numbers or more each, independent of one another.
    """
    parts = [(variance(sample) / len(sample), len(sample) - 1) for sample in (ours, theirs)]
    mean, square = fmean(ours) - fmean(theirs), sum(part for part, _ in parts)
    error = math.sqrt(square)
    if error == 0:
        return Difference(mean, 0.0, mean, mean)
    # Shares of the whole, so that no square of a small variance vanishes.
    freedom = 1 / sum((part / square) ** 2 / degrees for part, degrees in parts)
    reach = t_quantile(freedom) * error
    return Difference(mean, error, mean - reach, mean + reach)


def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """t for which Student's distribution has the mass `level` within ± t.

    With t = √f tan θ its density is proportional to cos^(f − 1) θ, which is integrated.

    Args:
        freedom: f, degrees of freedom, 1 or more and not necessarily whole.
    """
    edges = np.linspace(0, math.pi / 2, STEPS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = np.concatenate([[0], np.cumsum(np.cos(middles) ** (freedom - 1))])
    angle = np.interp(level, mass / mass[-1], edges)
    return math.sqrt(freedom) * math.tan(angle)


def compare(rows: list[dict[str, Any]], reference: dict[str, Any]) -> None:
    """Add to the rows that were trained on what their models are worth.

    Args:
        rows: of the cells (`study.json`).
        reference: frame accuracies of the members and the ensemble, percent.
    """
    trained = [row for row in rows if "models" in row]
    for row in trained:
        row["accuracy"], row["gain_kept"] = {}, {}
        for split in ("dev", "test"):
            found = [model[split] for model in row["models"]]
            row["accuracy"][split] = {"mean": fmean(found), "sd": stdev(found)}
            single = fmean(member[split] for member in reference["members"])
            gain = reference["ensemble"][split] - single
            row["gain_kept"][split] = (fmean(found) - single) / gain if gain > 0 else None
    dense = {row["temperature"]: row for row in trained if is_dense(row)}
    for row in trained:
        other = dense.get(row["temperature"])
        if other is not None and other is not row:
            # Dev alone says which is better; the seeds of two cells are the same numbers, but what
            # they lead to is not alike.
            pair = ([model["dev"] for model in one["models"]] for one in (row, other))
            difference = welch(*pair)
            row["over_dense"] = asdict(difference) | {"verdict": difference.verdict}


def is_dense(row: dict[str, Any]) -> bool:
    """Whether a cell is the one that others are compared with: dense at 16 bits."""
    return (row["settings"]["name"], row["settings"]["bits"]) == ("dense", 16)
