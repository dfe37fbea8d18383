"""The paper's claims on MNIST (section 3), judged by the spread over seeds.

A difference counts as clear outside its 95 % interval (Student's t); ± is the standard error of a
mean.
"""

from typing import Any

import numpy as np

from acoustic_kd.mnist.results import (
    bias_corrections,
    comparability_warning,
    errors_of,
    grid,
    nets_of,
    percent_wrong,
    spread,
)
from acoustic_kd.reports.tables import plus_minus

COMPARED = ("cumbersome", "hard", "distilled")  # variants whose errors are compared
MIN_WARM = 8.0  # the temperature from which on wide nets make about the same errors
MIN_WIDE, NARROW = 300, 30  # units a layer
BEST_OF_NARROW = (2.5, 4.0)  # the range of the best temperatures of narrow nets

# Student's t: 95 % lie within so many standard errors, for 1, 2, … degrees of freedom.
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
PERMUTATIONS = 9999


def claims(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's claims: `claim`, `paper`, `found` in words, `holds` (None: not decided)."""
    judges = (_counts, gap, _warm, _narrow, _threes, _sevens_eights, _means)
    return [claim for judge in judges for claim in judge(results)]


def _claim(claim: str, paper: str, finding: str, holds: bool | None) -> dict[str, Any]:
    return {"claim": claim, "paper": paper, "found": finding, "holds": holds}


def _counts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers of errors, in the paper those of a single net each."""
    judged = []
    for row in COMPARED:
        nets = nets_of(results, row)
        if not nets or nets[0]["paper"] is None:
            continue
        errors, paper = np.array(errors_of(nets)), nets[0]["paper"]
        holds, words = None, ", not comparable" if comparability_warning(results) else ""
        if not words and len(errors) > 1:
            # The 95 % interval of one more net: the spread of nets, and that of their mean.
            reach = _t95(len(errors) - 1) * errors.std(ddof=1) * np.sqrt(1 + 1 / len(errors))
            excess = errors.mean() - paper
            if abs(excess) > reach:
                words = ", clearly " + ("more" if excess > 0 else "fewer")
            # More errors, but within the spread of single nets: undecided.
            holds = True if excess <= 0 else False if words else None
        claim = f"{nets[0]['title']}: {paper:g} errors or fewer"
        judged.append(_claim(claim, f"{paper:g}", f"{spread(errors)} (s.d.){words}", holds))
    return judged


def gap(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The share of the gap between hard targets and the teacher that distillation closes."""
    nets = [nets_of(results, row) for row in COMPARED]
    if not all(row and row[0]["paper"] is not None for row in nets):
        return []
    rows = [np.array(errors_of(row)) for row in nets]
    teacher, hard, distilled = (errors.mean() for errors in rows)
    gap = hard - teacher
    theirs = [row[0]["paper"] for row in nets]
    paper = (theirs[1] - theirs[2]) / (theirs[1] - theirs[0])
    claim = "The distilled net closes most of the gap between hard targets and the cumbersome net"
    if gap <= 0:
        finding, holds = "the cumbersome net makes no fewer errors than hard targets do", None
    else:
        slopes = np.array([hard - distilled, distilled - teacher, -gap]) / gap**2
        each = [e.std(ddof=1) / np.sqrt(len(e)) if len(e) > 1 else np.nan for e in rows]
        error = 100 * float(np.sqrt(np.sum((slopes * each) ** 2)))
        share = 100 * (hard - distilled) / gap
        degrees = sum(len(errors) - 1 for errors in rows)
        finding, holds = f"{plus_minus(share, error, 0)} %", _is_above(share, error, degrees, 50)
    return [_claim(claim, f"{100 * paper:.0f} %", finding, holds)]


def _warm(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Wide nets make about the same errors at all temperatures from 8 on."""
    judged = []
    for width, cells in grid(results).items():
        warm = [t for t in cells if t >= MIN_WARM]
        if width < MIN_WIDE or len(warm) < 2:
            continue
        errors = _matrix(cells, warm)
        means = errors.mean(0)
        words, holds = f"means of {means.min():.1f} … {means.max():.1f} errors", None
        if len(errors) > 1:
            p = _permutation_p(errors)
            words += f" (p = {p:.2g}, permutations within seeds)"
            holds = p > 0.05
        cold = [t for t in cells if t < MIN_WARM]
        if cold:
            words += f"; T below {MIN_WARM:g}: {_against(cells, cold, warm)[2]} errors against them"
        claim = f"With {width} units a layer T = {_list(warm)} do about the same"
        judged.append(_claim(claim, "“fairly similar”", words, holds))
    return judged


def _narrow(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Nets of 30 units make the fewest errors at temperatures 2.5 … 4."""
    cells = grid(results).get(NARROW, {})
    best = [t for t in cells if BEST_OF_NARROW[0] <= t <= BEST_OF_NARROW[1]]
    others = [[t for t in cells if t >= MIN_WARM], [t for t in cells if t < BEST_OF_NARROW[0]]]
    if not best or not others[0]:
        return []
    words, fewer = [], []
    for other in filter(None, others):
        difference, error, text = _against(cells, best, other)
        degrees = len(_matrix(cells, [*best, *other])) - 1
        above = _is_above(difference, error, degrees, 0)
        fewer.append(None if above is None else not above)
        words.append(f"{text} errors against T = {_list(other)}")
    means = {t: float(np.mean(list(errors.values()))) for t, errors in cells.items()}
    lowest = min(means, key=means.__getitem__)
    words.append(f"fewest at T = {lowest:g} ({means[lowest]:.1f})")
    claim = f"With {NARROW} units a layer T = {_list(best)} do better than all others"
    return [_claim(claim, "“significantly better”", "; ".join(words), _all(fewer))]


def _threes(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A net trained without any 3 recognises threes."""
    nets = nets_of(results, "no-threes")
    if not nets:
        return []
    right = {how: _mean(100 - percent_wrong(nets, how, [3])) for how in bias_corrections(nets)}
    mean, error, told = right[""]
    claim = "Without a 3 in its transfer set a net gets most threes right"
    most = _is_above(mean, error, len(nets) - 1, 50)
    judged = [_claim(claim, "86.8 %", f"{told} %", most)]
    if "test" in right:
        mean, error, told = right["test"]
        claim = "With the bias of the 3 shifted, that net gets more than 95 % of the threes right"
        nearly_all = _is_above(mean, error, len(nets) - 1, 95)
        told = f"{told} % (by the prior: {right['prior'][2]} %)"
        judged.append(_claim(claim, "98.6 %", told, nearly_all))
    return judged


def _sevens_eights(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A net trained on 7s and 8s alone recognises the other digits."""
    nets = nets_of(results, "sevens-eights")
    if not nets or "corrected" not in nets[0]:
        return []
    wrong = {how: percent_wrong(nets, how, range(10)) for how in bias_corrections(nets)}
    told = [_mean(wrong[how])[2] for how in ("", "test", "prior")]
    gain, enough = _mean(wrong[""] - wrong["test"]), _mean(50 - wrong["test"])
    better = [_is_above(*each[:2], len(nets) - 1, 0) for each in (gain, enough)]
    claim = "Shown 7s and 8s alone, a net with both biases lowered gets most images right"
    finding = f"{told[0]} % wrong before, {told[1]} % after (by the prior: {told[2]} %)"
    return [_claim(claim, "47.3 % wrong before, 13.2 % after", finding, _all(better))]


def _means(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The arithmetic and the geometric mean of several teachers teach equally well."""
    rows = [np.array(errors_of(nets_of(results, row))) for row in ("arithmetic", "geometric")]
    if not all(map(len, rows)):
        return []
    first, second = rows
    difference, holds, error = float(first.mean() - second.mean()), None, float("nan")
    if min(len(first), len(second)) > 1:
        error = float(np.sqrt(sum(errors.var(ddof=1) / len(errors) for errors in rows)))
        holds = _is_above(difference, error, len(first) + len(second) - 2, 0) is None
    claim = "The arithmetic mean of several teachers serves as well as the geometric one"
    finding = f"{plus_minus(difference, error, 1, sign=True)} errors, arithmetic minus geometric"
    return [_claim(claim, "either may be taken, without figures", finding, holds)]


def _matrix(cells: dict[float, dict[int, int]], temperatures: list[float]) -> np.ndarray:
    """Errors [seeds, temperatures] of the seeds that have all those temperatures."""
    seeds = set.intersection(*(set(cells[t]) for t in temperatures))
    rows = [[cells[t][seed] for t in temperatures] for seed in sorted(seeds)]
    return np.array(rows, float).reshape(-1, len(temperatures))


def _against(
    cells: dict[float, dict[int, int]], first: list[float], second: list[float]
) -> tuple[float, float, str]:
    """Errors at the first temperatures minus the second: mean over seeds, its error, both as text.

    Nets of one seed have the same teacher, whose luck cancels in the difference.
    """
    errors = _matrix(cells, [*first, *second])
    return _mean(errors[:, : len(first)].mean(1) - errors[:, len(first) :].mean(1), sign=True)


def _permutation_p(errors: np.ndarray) -> float:
    """The share of permutations within each seed that differ as much as `errors` [S, T]."""
    repeated = np.repeat(errors[None], PERMUTATIONS, axis=0)
    permuted = np.random.default_rng(0).permuted(repeated, axis=2)
    # The variance of the means orders the draws as the F statistic does.
    as_much = permuted.mean(1).var(1) >= errors.mean(0).var() * (1 - 1e-9)
    return float((1 + as_much.sum()) / (1 + PERMUTATIONS))


def _mean(values: np.ndarray, sign: bool = False) -> tuple[float, float, str]:
    """Mean, its standard error (NaN for one value), and both as text."""
    values = np.asarray(values, float)
    several = len(values) > 1
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if several else float("nan")
    mean = float(values.mean()) if len(values) else float("nan")
    return mean, error, plus_minus(mean, error, 1, sign=sign)


def _is_above(value: float, error: float, degrees: int, point: float) -> bool | None:
    """Whether a value with a standard error, of so many degrees of freedom, lies above a point.

    None if neither above nor below is clear.
    """
    if degrees < 1 or not abs(value - point) > _t95(degrees) * error:
        return None
    return bool(value > point)


def _t95(degrees: int) -> float:
    return T95[min(degrees, len(T95)) - 1]


def _all(parts: list[bool | None]) -> bool | None:
    """Whether all parts of a claim hold; None if one is undecided and none fails."""
    return False if False in parts else None if None in parts else True


def _list(temperatures: list[float]) -> str:
    return ", ".join(f"{t:g}" for t in temperatures)
