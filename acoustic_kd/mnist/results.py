"""Read the results for the report and the claims: nets by variant, their errors, as text."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from acoustic_kd.reports.tables import plus_minus

# A method of bias correction → its name in the report.
BIASES = {
    "": "as trained",
    "prior": "shifted to the prior",
    "teacher": "shifted to the teacher",
    "test": "shift tuned on these images",
}


def comparability_warning(results: dict[str, Any]) -> str:
    """Why the figures cannot be compared with the paper's, or nothing."""
    reasons = []
    if not results["comparable"]:
        reasons.append(
            f"These figures are of {results['source']}, not of MNIST's test images: they are "
            "not comparable with the paper's."
        )
    if results["measured_on"] == "dev":
        reasons.append("These are not test figures: they are of train images that were held out.")
    return " ".join(reasons)


def nets_by_variant(results: dict[str, Any], *experiments: int) -> list[list[dict[str, Any]]]:
    """The nets of some experiments, those of one variant and temperature together."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for experiment in experiments:
        for net in results["nets"]:
            if net["experiment"] == experiment:
                groups.setdefault((net["row"], net["temperature"]), []).append(net)
    return list(groups.values())


def nets_of(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The nets of a variant."""
    return [net for net in results["nets"] if net["row"] == name]


def bias_corrections(nets: list[dict[str, Any]]) -> list[str]:
    """The methods of bias correction of some nets, first "": as trained."""
    return ["", *nets[0].get("corrected", ())]


def confusions_of(nets: list[dict[str, Any]], how: str = "") -> np.ndarray:
    """Confusions [nets, K, K], as trained or corrected."""
    return np.array([(n["corrected"][how] if how else n)["confusion"] for n in nets])


def errors_of(nets: list[dict[str, Any]], how: str = "") -> list[int]:
    """Errors of each net."""
    matrices = confusions_of(nets, how)
    return [int(matrix.sum() - matrix.trace()) for matrix in matrices]


def percent_wrong(nets: list[dict[str, Any]], how: str, classes: Iterable[int]) -> np.ndarray:
    """Errors of each net on the images of some classes, in percent of them."""
    rows = list(classes)
    matrices = confusions_of(nets, how)
    right = matrices[:, rows, rows].sum(1)
    return 100 * (1 - right / matrices[:, rows].sum((1, 2)))


def spread(values: Sequence[float] | np.ndarray, digits: int = 1, *, sign: bool = False) -> str:
    """Mean ± standard deviation; a single count of errors stays whole."""
    if len(values) > 1:
        return plus_minus(float(np.mean(values)), float(np.std(values, ddof=1)), digits, sign=sign)
    whole = not sign and all(float(value).is_integer() for value in values)
    return "".join(plus_minus(value, None, 0 if whole else digits, sign=sign) for value in values)


def grid(results: dict[str, Any]) -> dict[int, dict[float, dict[int, int]]]:
    """Experiment 4: width (widest first) → temperature → seed → errors."""
    errors: dict[int, dict[float, dict[int, int]]] = {}
    for net in results["nets"]:
        if net["experiment"] == 4 and net["temperature"] is not None:
            cells = errors.setdefault(net["width"], {}).setdefault(net["temperature"], {})
            cells[net["seed"]] = net["errors"]
    return {
        width: dict(sorted(cells.items())) for width, cells in sorted(errors.items(), reverse=True)
    }
