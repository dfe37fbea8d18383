"""Pruning back-off language models by relative entropy.

Stolcke, *Entropy-based Pruning of Backoff Language Models* (1998). To take the n-gram hw out of the
model p gives a model p' in which w after h is backed off to, and all that is backed off to after h
has another weight alpha'. By equations 2 to 5,

    D(p || p') = -p(h) { p(w|h) [log p(w|h') + log alpha'(h) - log p(w|h)]
                         + [log alpha'(h) - log alpha(h)] (1 - sum of explicit p(.|h)) }
    alpha'(h) = (1 - sum of the other explicit p(.|h)) / (1 - sum of those words' p(.|h'))

with h' = h without its first word. The n-gram goes if the perplexity grows by less than a share:
exp(D) - 1 < threshold. All n-grams of an order are judged by the model as it is before any of them
goes; the highest order comes first, and an n-gram that begins a longer one stays. At the end the
back-off weights are computed anew.

p(h) is here how often h comes in the text. The paper multiplies it out of the model's own
conditional probabilities; but the lower orders of a Kneser-Ney model are no estimate of how often
words come (Chelba et al., *Study on Interaction between Entropy Pruning and Kneser-Ney Smoothing*,
2010).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

NOTHING = 1e-12  # less than this is what rounding leaves of zero


class Ngrams(Protocol):
    """What pruning needs of all n-grams of one order; see `lm.Ngrams`."""

    prefix: np.ndarray
    suffix: np.ndarray
    raw: np.ndarray


def prune(
    orders: Sequence[Ngrams],
    kept: Sequence[np.ndarray],
    probabilities: list[np.ndarray],
    backoffs: list[np.ndarray],
    threshold: float,
    predictions: int,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Prune a model that sums to one; it still does afterwards. Single words stay.

    Args:
        orders: the n-grams of each order, G of them; also those that are not in the model.
        kept: for each order, bool [G]: those that are.
        probabilities: for each order, [G]; of those that are not in the model, what it gives by
            backing off. Those of pruned n-grams are changed to that in place.
        backoffs: for each order, [G] back-off weights; of the highest: empty.
        threshold: by which share the perplexity may grow by each n-gram that goes.
        predictions: how many words the text has, sentence ends counted.

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
        going = kept[n] & (growth < threshold)
        if n + 1 < len(orders):
            going[orders[n + 1].prefix[kept[n + 1]]] = False
        kept[n] = kept[n] & ~going
    return kept, _back_off_anew(orders, kept, probabilities, backoffs)


def perplexity_growth(
    ngrams: Ngrams,
    kept: np.ndarray,
    probability: np.ndarray,
    lower: np.ndarray,
    backoff: np.ndarray,
    share: np.ndarray,
) -> np.ndarray:
    """By which share the perplexity grows if one n-gram alone goes: [G]; 0 where not kept.

    Args:
        kept, probability: [G] as for `prune`.
        lower, backoff, share: of the n-grams one order below, H of them: [H] probabilities,
            back-off weights, and how often each comes as a share of all predictions.
    """
    prefix = ngrams.prefix
    explicit, explicit_lower = (
        np.where(kept, probability, 0),
        np.where(kept, lower[ngrams.suffix], 0),
    )
    below = _left(np.bincount(prefix, explicit_lower, len(lower)))[prefix]
    left = backoff[prefix] * below
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = (left + explicit) / (below + explicit_lower)
        change = np.log(weight) - np.log(backoff[prefix])
        own = np.log(explicit_lower) + np.log(weight) - np.log(explicit)
    entropy = -share[prefix] * (explicit * own + change * left)
    return np.where(kept, np.expm1(entropy), 0)


def _back_off_anew(
    orders: Sequence[Ngrams],
    kept: Sequence[np.ndarray],
    probabilities: list[np.ndarray],
    backoffs: list[np.ndarray],
) -> list[np.ndarray]:
    """The back-off weights with which the n-grams that are kept sum to one, lowest order first.

    Sets the probabilities of all other n-grams to what the model gives by backing off.
    """
    weights = []
    for n in range(1, len(orders)):
        prefix, lower = orders[n].prefix, probabilities[n - 1][orders[n].suffix]
        size = len(probabilities[n - 1])
        left = _left(np.bincount(prefix, np.where(kept[n], probabilities[n], 0), size))
        below = _left(np.bincount(prefix, np.where(kept[n], lower, 0), size))
        some = (left > NOTHING) & (below > NOTHING)  # else no word is backed off to
        weights.append(np.where(some, left / np.maximum(below, NOTHING), backoffs[n - 1]))
        probabilities[n] = np.where(kept[n], probabilities[n], weights[-1][prefix] * lower)
    return [*weights, backoffs[-1]]


def _left(sums: np.ndarray) -> np.ndarray:
    """What is left of 1, without what is rounding alone."""
    left = 1 - sums
    return np.where(left > NOTHING, left, 0)
