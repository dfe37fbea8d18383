"""Prune back-off language models by relative entropy.

Stolcke, *Entropy-based Pruning of Backoff Language Models* (1998). Without the n-gram hw, the model
p becomes a model p' that backs off to w after h; its back-off weight of h is alpha', not alpha.
By equations 2 to 5,

    D(p || p') = -p(h) { p(w|h) [log p(w|h') + log alpha'(h) - log p(w|h)]
                         + [log alpha'(h) - log alpha(h)] (1 - sum of explicit p(.|h)) }
    alpha'(h) = (1 - sum of the other explicit p(.|h)) / (1 - sum of those words' p(.|h'))

with h' = h without its first word. The n-gram is removed if the perplexity grows by less than a
share: exp(D) - 1 < threshold. All n-grams of an order are judged by the model with all of them; the
highest order comes first, and an n-gram that begins a longer one stays. At the end the back-off
weights are recomputed.

p(h) is here the relative frequency of h in the text. The paper computes it from the model's own
conditional probabilities, but the lower orders of a Kneser-Ney model do not estimate frequencies
(Chelba et al., *Study on Interaction between Entropy Pruning and Kneser-Ney Smoothing*, 2010).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from acoustic_kd.language.ngrams import Ngrams

ROUNDING_ERROR = 1e-12  # a smaller probability stands for zero


def prune(
    orders: "Sequence[Ngrams]",
    kept: Sequence[np.ndarray],
    probabilities: list[np.ndarray],
    backoffs: list[np.ndarray],
    threshold: float,
    predictions: int,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Prune a model that sums to one, and still does so afterwards. Single words stay.

    Args:
        orders: the G n-grams of each order, with those that are not in the model.
        kept: for each order, bool [G]: those in the model.
        probabilities: for each order, [G]; for n-grams that are not in the model, the probability
            by backing off. Changed in place for pruned n-grams.
        backoffs: for each order, [G] back-off weights; empty at the highest order.
        threshold: the share by which the perplexity may grow for each removed n-gram.
        predictions: number of words of the text, with sentence ends.

    Returns:
        `kept` and `backoffs` of the pruned model.
    """
    kept = list(kept)
    for n in range(len(orders) - 1, 0, -1):
        growth = perplexity_growth(
            orders[n],
            kept[n],
            probabilities[n],
            probabilities[n - 1],
            backoffs[n - 1],
            orders[n - 1].raw / predictions,
        )
        removed = kept[n] & (growth < threshold)
        if n + 1 < len(orders):
            removed[orders[n + 1].prefix[kept[n + 1]]] = False
        kept[n] = kept[n] & ~removed
    return kept, _recompute_backoffs(orders, kept, probabilities, backoffs)


def perplexity_growth(
    ngrams: "Ngrams",
    kept: np.ndarray,
    probability: np.ndarray,
    lower: np.ndarray,
    backoff: np.ndarray,
    share: np.ndarray,
) -> np.ndarray:
    """The share by which the perplexity grows if one n-gram is removed: [G]; 0 where not kept.

    Args:
        kept, probability: [G] as for `prune`.
        lower, backoff, share: of the H n-grams one order below: [H] probabilities, back-off
            weights, and relative frequencies (shares of all predictions).
    """
    prefix = ngrams.prefix
    explicit = np.where(kept, probability, 0)
    explicit_lower = np.where(kept, lower[ngrams.suffix], 0)
    below = _remainder(np.bincount(prefix, explicit_lower, len(lower)))[prefix]
    left = backoff[prefix] * below
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = (left + explicit) / (below + explicit_lower)
        change = np.log(weight) - np.log(backoff[prefix])
        word_change = np.log(explicit_lower) + np.log(weight) - np.log(explicit)
    entropy = -share[prefix] * (explicit * word_change + change * left)
    return np.where(kept, np.expm1(entropy), 0)


def _recompute_backoffs(
    orders: "Sequence[Ngrams]",
    kept: Sequence[np.ndarray],
    probabilities: list[np.ndarray],
    backoffs: list[np.ndarray],
) -> list[np.ndarray]:
    """The back-off weights that make the kept n-grams sum to one, lowest order first.

    The probabilities of all other n-grams become those by backing off.
    """
    weights = []
    for n in range(1, len(orders)):
        prefix, lower = orders[n].prefix, probabilities[n - 1][orders[n].suffix]
        size = len(probabilities[n - 1])
        left = _remainder(np.bincount(prefix, np.where(kept[n], probabilities[n], 0), size))
        below = _remainder(np.bincount(prefix, np.where(kept[n], lower, 0), size))
        backs_off = (left > ROUNDING_ERROR) & (below > ROUNDING_ERROR)  # to any word
        weight = left / np.maximum(below, ROUNDING_ERROR)
        weights.append(np.where(backs_off, weight, backoffs[n - 1]))
        probabilities[n] = np.where(kept[n], probabilities[n], weights[-1][prefix] * lower)
    return [*weights, backoffs[-1]]


def _remainder(sums: np.ndarray) -> np.ndarray:
    """1 - sums, without rounding errors."""
    remainder = 1 - sums
    return np.where(remainder > ROUNDING_ERROR, remainder, 0)
